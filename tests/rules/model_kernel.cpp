#include "rules/model_kernel.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <thread>
#include <utility>

#include "rules/judgement.hpp"
#include "rules/layout.hpp"

namespace smtpfence {

namespace {

KernelError refused_to_us(const std::string& owner) {
    return {EPERM, "table smtpfence", "table smtpfence belongs to " + owner + "; stop it first"};
}

std::chrono::milliseconds by_machine() {
    timespec day{}, machine{};
    clock_gettime(CLOCK_REALTIME, &day);
    clock_gettime(CLOCK_BOOTTIME, &machine);
    return std::chrono::seconds(day.tv_sec - machine.tv_sec) +
           std::chrono::milliseconds((day.tv_nsec - machine.tv_nsec) / 1'000'000);
}

/// What a program that made `after` of `before` touched.
Touched touched_between(const Fence& before, const Fence& after) {
    Touched touched;
    touched.outline = before.chains != after.chains;
    const auto remade = [&](const std::string& name) {
        if (parse_exempt_set_name(name)) touched.remade.insert(name);
        touched.outline = true;
    };
    for (const auto& [name, set] : before.sets) {
        if (!after.sets.contains(name)) remade(name);
    }
    for (const auto& [name, set] : after.sets) {
        const auto old = before.sets.find(name);
        if (old == before.sets.end() || old->second.shape != set.shape) {
            remade(name);
        } else if (!parse_exempt_set_name(name)) {
            touched.outline = touched.outline || old->second.elements != set.elements;
        } else {
            for (const auto& [key, held] : set.elements) {
                const auto same = old->second.elements.find(key);
                if (same == old->second.elements.end() || same->second != held) touched.exemptions[name].push_back(key);
            }
            for (const auto& [key, held] : old->second.elements) {
                if (!set.elements.contains(key)) touched.exemptions[name].push_back(key);
            }
        }
    }
    return touched;
}

}  // namespace

ModelKernel::ModelKernel(Instant start)
    : clock(start), since_start_(by_machine()), bell_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

ModelKernel::~ModelKernel() { close(bell_); }

/// It counts down: by another clock, everything ends at another time.
void ModelKernel::set_clock(std::chrono::milliseconds since_start) {
    const Seconds step = std::chrono::round<Seconds>(since_start - std::exchange(since_start_, since_start));
    clock += step;
    for (auto& [name, set] : table_.sets) {
        for (auto& [key, held] : set.elements) {
            if (held.until != never) held.until += step;
        }
    }
}

void ModelKernel::listen() { listening_ = !owned_by_us; }

std::vector<ForeignCommit> ModelKernel::foreign_commits() {
    eventfd_t rung = 0;
    eventfd_read(bell_, &rung);
    return std::exchange(heard_, {});
}

void ModelKernel::note_foreign(Touched touched) {
    ++generation_;
    if (!listening_) return;
    heard_.push_back({generation_, 4242, "nft", std::move(touched)});
    eventfd_write(bell_, 1);
}

void ModelKernel::take() {
    if (!other_owner.empty()) throw refused_to_us(other_owner);
    if (!table_exists) ++generation_;
    table_exists = true;
}

Fence ModelKernel::read(Fence expected, Comparison comparison) {
    ++readings;
    Fence copy = table_;
    forget_ended(copy);
    for (auto& [name, set] : copy.sets) {
        if (set.shape.dynamic) set.elements.clear();
        const auto known = expected.sets.find(name);
        if (known == expected.sets.end() || !parse_exempt_set_name(name)) continue;
        set.ended = known->second.ended;
        if (comparison == Comparison::keys) continue;
        if (count(name) == known->second.elements.size()) set.elements = std::move(known->second.elements);
    }
    return copy;
}

std::optional<uint32_t> ModelKernel::count(const std::string& set) {
    const auto found = table_.sets.find(set);
    if (offered.element_count != true || found == table_.sets.end()) return std::nullopt;
    return static_cast<uint32_t>(found->second.elements.size()) + uncollected[set];
}

std::vector<std::optional<Held>> ModelKernel::held(const std::string& set, std::span<const Key> keys) {
    std::vector<std::optional<Held>> held;
    asked += keys.size();
    std::this_thread::sleep_for(answers_in);
    for (const Key& key : keys) {
        const auto found = find(set, key);
        held.push_back(found ? std::optional(found->second) : std::nullopt);
    }
    return held;
}

bool ModelKernel::commit(const Transaction& transaction, std::optional<uint32_t> generation) {
    if (interference_) meddle(std::exchange(interference_, nullptr));
    if (generation && *generation != generation_)
        throw KernelError(ERESTART, "transaction", "another program changed nftables meanwhile; apply again");
    if (!other_owner.empty()) throw refused_to_us(other_owner);
    if (!table_exists) throw KernelError(ENOENT, "table smtpfence", "table smtpfence is gone; apply again");
    if (failure_ && failure_->more-- == 0) {
        const int code = failure_->code;
        failure_.reset();
        throw KernelError(code, "transaction", std::string("the kernel refused: ") + std::strerror(code));
    }
    size_t elements = 0;
    for (const Operation& operation : transaction.operations) {
        if (const auto* add = std::get_if<AddElements>(&operation)) elements += add->elements.size();
    }
    if (elements > 1000) listening_ = false;
    Fence next = table_;
    forget_ended(next);
    perform(next, transaction);
    if (!(next == table_)) ++generation_;
    table_ = std::move(next);
    commits.push_back(transaction);
    return true;
}

Fence ModelKernel::read_outline() {
    Fence copy = outline(table_);
    for (auto& [name, set] : copy.sets) {
        if (set.shape.dynamic) set.elements.clear();
    }
    return copy;
}

std::optional<std::pair<Key, Held>> ModelKernel::find(const std::string& set, const Key& address) {
    auto element = lookup_in(table_)(set, address);
    if (element && table_.sets.at(set).shape.timeouts && element->second.until <= clock) element.reset();
    return element;
}

std::vector<Counted> ModelKernel::counted(const std::string& set) {
    std::vector<Counted> result;
    for (const auto& [key, packets] : attempts_[set]) result.push_back({key, packets});
    return result;
}

uint64_t ModelKernel::chain_packets(const std::string& chain) { return packets_[chain]; }

bool ModelKernel::remove() {
    if (!other_owner.empty()) throw refused_to_us(other_owner);
    if (!table_exists) return false;
    drop_table();
    ++generation_;
    return true;
}

void ModelKernel::meddle(const std::function<void(Fence&)>& change) {
    const Fence before = table_;
    change(table_);
    note_foreign(touched_between(before, table_));
}

void ModelKernel::remake(const std::string& set) {
    table_.sets.at(set).elements.clear();
    Touched touched;
    touched.outline = true;
    touched.remade.insert(set);
    note_foreign(std::move(touched));
}

void ModelKernel::flush() {
    Touched touched = touched_between(table_, {});
    touched.outline = true;
    drop_table();
    note_foreign(std::move(touched));
}

void ModelKernel::drop_table() {
    table_ = Fence();
    table_exists = false;
    attempts_.clear();
    packets_.clear();
}

void ModelKernel::attempt(const std::string& set, const Key& source, uint64_t packets) {
    attempts_[set][source] += packets;
}

void ModelKernel::forget_ended(Fence& fence) const {
    for (auto& [name, set] : fence.sets) {
        if (set.shape.timeouts) erase_if(set.elements, [&](const auto& e) { return e.second.until <= clock; });
    }
}

}  // namespace smtpfence
