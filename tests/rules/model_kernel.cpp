#include "rules/model_kernel.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "rules/judgement.hpp"

namespace smtpfence {

namespace {

KernelError refused_to_us(const std::string& owner) {
    return {EPERM, "table smtpfence", "table smtpfence belongs to " + owner + "; stop it first"};
}

}  // namespace

ModelKernel::ModelKernel(Instant start) : clock(start), bell_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

ModelKernel::~ModelKernel() { close(bell_); }

void ModelKernel::listen() { listening_ = !owned_by_us; }

std::vector<ForeignCommit> ModelKernel::foreign_commits() {
    eventfd_t rung = 0;
    eventfd_read(bell_, &rung);
    return std::exchange(heard_, {});
}

void ModelKernel::note_foreign() {
    ++generation_;
    if (!listening_) return;
    heard_.push_back({4242, "nft"});
    eventfd_write(bell_, 1);
}

void ModelKernel::take() {
    if (!other_owner.empty()) throw refused_to_us(other_owner);
    if (!table_exists) ++generation_;
    table_exists = true;
}

Fence ModelKernel::read() {
    ++readings;
    Fence copy = table_;
    forget_ended(copy);
    for (auto& [name, set] : copy.sets) {
        if (set.shape.dynamic) set.elements.clear();
    }
    return copy;
}

void ModelKernel::commit(const Transaction& transaction) {
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
}

Fence ModelKernel::read_outline() {
    Fence copy = outline(table_);
    for (auto& [name, set] : copy.sets) {
        if (set.shape.dynamic) set.elements.clear();
    }
    return copy;
}

std::optional<std::pair<Key, Held>> ModelKernel::find(const std::string& set, const Key& address) {
    Fence copy;
    if (const auto found = table_.sets.find(set); found != table_.sets.end()) copy.sets.insert(*found);
    forget_ended(copy);
    return lookup_in(copy)(set, address);
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
    change(table_);
    note_foreign();
}

void ModelKernel::flush() {
    drop_table();
    note_foreign();
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
