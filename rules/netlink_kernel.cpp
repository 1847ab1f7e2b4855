#include "rules/netlink_kernel.hpp"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>

#include "rules/layout.hpp"
#include "rules/netlink_batch.hpp"
#include "rules/netlink_error.hpp"

namespace smtpfence {

namespace {

/// With more elements in one commit than these, being heard costs more than it tells.
constexpr size_t most_heard = 1000;

/// Deleted by a transaction on a kernel that has no message for "delete, if it is there".
void drop_element(Transaction& transaction, size_t operation, size_t element) {
    auto& elements = std::get<DeleteElements>(transaction.operations[operation]).elements;
    elements.erase(elements.begin() + static_cast<ptrdiff_t>(element));
}

}  // namespace

std::unique_ptr<Kernel> open_kernel() { return std::make_unique<NetlinkKernel>(); }

std::string text(const Features& features) {
    const auto line = [](const char* what, bool has) { return std::string(what) + ": " + (has ? "yes" : "no") + "\n"; };
    return line("owner and persist flags", features.persist) + line("tolerant delete", features.destroy_element) +
           line("acknowledged end of a transaction", features.ack_on_end) +
           (features.element_count ? line("element counts", *features.element_count) : "");
}

NetlinkKernel::NetlinkKernel(const Features& wanted) {
    const Features found = probe();
    features_.persist = found.persist && wanted.persist;
    features_.destroy_element = found.destroy_element && wanted.destroy_element;
    features_.ack_on_end = found.ack_on_end && wanted.ack_on_end;
    counting_ = wanted.element_count.value_or(false);
}

/// Two transactions that change nothing: one without its end, which is checked and thrown away, and an empty one.
Features NetlinkKernel::probe() {
    SetShape shape;
    NetlinkBatch dry({}, socket_.next_sequence(), 0);
    dry.create_table("smtpfence_probe_flags", table_owner | table_persist);
    const uint32_t flags = dry.last_sequence();
    dry.create_table("smtpfence_probe", 0);
    const uint32_t plain = dry.last_sequence();
    dry.create_set("smtpfence_probe", "set", shape);
    dry.destroy_nothing("smtpfence_probe", "set");
    const uint32_t destroy = dry.last_sequence();
    Features found;
    const std::vector<Reply> replies = socket_.batch(dry.bytes());
    for (const Reply& reply : replies) {
        if (reply.sequence == flags) found.persist = reply.error == 0;
        if (reply.sequence == destroy) found.destroy_element = reply.error == 0;
        const bool refused = reply.sequence == dry.first_sequence() || reply.sequence == plain;
        if (refused && reply.error != 0) throw error_about(reply.error, "nf_tables");
    }
    if (replies.empty()) throw error_about(EOPNOTSUPP, "nf_tables");
    NetlinkBatch empty({true, true, true, true}, dry.last_sequence() + 1, 0);
    empty.end();
    for (const Reply& reply : socket_.batch(empty.bytes())) {
        if (reply.sequence == empty.last_sequence()) found.ack_on_end = reply.error == 0;
    }
    socket_.skip_sequences(empty.last_sequence());
    return found;
}

NetlinkBatch NetlinkKernel::new_batch(std::optional<uint32_t> generation) {
    return {features_, socket_.next_sequence(), socket_.milliseconds_now(), generation};
}

std::string NetlinkKernel::owner_words() {
    const auto state = table_state(socket_);
    if (!state || state->owner == 0 || state->owner == socket_.port()) return "";
    // A socket's port is its process's id, unless the process has several.
    const std::string number = std::to_string(state->owner);
    std::ifstream file("/proc/" + number + "/comm");
    std::string name;
    if (!std::getline(file, name)) return "the socket with netlink port " + number;
    return "process " + number + " (" + name + ")";
}

void NetlinkKernel::take() {
    const auto state = table_state(socket_);
    owned_ = state && state->owner == socket_.port();
    if (owned_) return;
    // A table that was made without the flags can't gain them; it stays as it is rather than be missing for a moment.
    const bool flags = features_.persist && (!state || (state->flags & table_persist) != 0 || state->owner != 0);
    if (state && state->owner == 0 && !flags && !state->dormant()) return;  // who adds a table wakes it
    NetlinkBatch batch = new_batch();
    batch.create_table(table_name, flags ? table_owner | table_persist : 0);
    batch.end();
    if (const auto refusals = attempt(batch); !refusals.empty()) fail(refusals.front());
    owned_ = flags;
}

void NetlinkKernel::listen() {
    if (owned_) return watch_.leave();
    if (watch_.descriptor() >= 0) return;
    watch_.join(socket_.port());
    foreign_commits();  // of what was being told just then, the beginning is missing: it counts as not heard
}

std::vector<ForeignCommit> NetlinkKernel::foreign_commits() {
    if (watch_.descriptor() < 0) return {};
    // A commit can be asked for before it is told. An empty transaction waits for the one that is going on.
    NetlinkBatch empty = new_batch();
    empty.end();
    socket_.skip_sequences(empty.last_sequence());
    socket_.batch(empty.bytes());
    return watch_.commits();
}

std::optional<uint32_t> NetlinkKernel::count(const std::string& set) {
    if (!counting_) return std::nullopt;
    const ElementCount count = element_count(socket_, set);
    if (count.is_set) features_.element_count = count.elements.has_value();
    return count.elements;
}

Fence NetlinkKernel::read(Depth depth, Fence expected, Comparison comparison) {
    Fence fence = read_table(socket_, depth, counting_, std::move(expected), comparison);
    if (!features_.element_count && !fence.sets.empty()) count(fence.sets.begin()->first);
    return fence;
}

bool NetlinkKernel::commit(const Transaction& given, std::optional<uint32_t> generation) {
    if (elements_in(given) > most_heard) watch_.leave();
    std::optional<Transaction> reduced;  // a copy only when something must be left out
    while (true) {
        const Transaction& transaction = reduced ? *reduced : given;
        NetlinkBatch batch = new_batch(generation);
        for (const Operation& operation : transaction.operations) batch.add(operation);
        if (batch.first_sequence() == batch.last_sequence()) return false;  // nothing but the beginning
        batch.end();
        const auto refusals = attempt(batch);
        if (refusals.empty()) return true;
        const bool all_gone = std::all_of(refusals.begin(), refusals.end(), [&](const Refusal& refusal) {
            return refusal.reply.error == ENOENT && refusal.element &&
                   std::holds_alternative<DeleteElements>(transaction.operations[*refusal.operation]);
        });
        if (!all_gone) fail(refusals.front());
        if (!reduced) reduced = given;
        for (auto refusal = refusals.rbegin(); refusal != refusals.rend(); ++refusal) {
            drop_element(*reduced, *refusal->operation, *refusal->element);
        }
        std::set<size_t> concerned;
        for (const Refusal& refusal : refusals) concerned.insert(*refusal.operation);
        for (const size_t operation : concerned) drop_missing(std::get<DeleteElements>(reduced->operations[operation]));
    }
}

/// What ended at the same moment is many elements, of which each refusal names one in a message.
void NetlinkKernel::drop_missing(DeleteElements& remove) {
    const auto shape = shape_of(remove.set);
    if (!shape || shape->interval) return;
    std::vector<Key> keys;
    for (const auto& element : remove.elements) keys.push_back(element.first);
    const auto held = held_elements(socket_, remove.set, keys);
    ElementList there;
    for (size_t i = 0; i < held.size(); ++i) {
        if (held[i]) there.push_back(remove.elements[i]);
    }
    remove.elements = std::move(there);
}

std::vector<NetlinkKernel::Refusal> NetlinkKernel::attempt(NetlinkBatch& batch) {
    socket_.skip_sequences(batch.last_sequence());
    std::vector<Refusal> refusals;
    bool acknowledged = false;
    for (const Reply& reply : socket_.batch(batch.bytes())) {
        if (reply.error == 0) {
            const uint32_t last = batch.last_sequence();
            acknowledged = acknowledged || reply.sequence == (features_.ack_on_end ? last : last - 1);
            continue;
        }
        const NetlinkBatch::Subject subject = batch.subject(reply.sequence, reply.offset);
        refusals.push_back({reply, subject.object, subject.operation, subject.element});
    }
    if (refusals.empty() && !acknowledged) {
        refusals.push_back({{batch.first_sequence(), EIO, 0}, "transaction", {}, {}});
    }
    return refusals;
}

void NetlinkKernel::fail(const Refusal& refusal) {
    const int code = refusal.reply.error;
    if (code == EPERM) {
        const std::string owner = owner_words(), table = std::string("table ") + table_name;
        if (!owner.empty()) throw KernelError(EPERM, table, table + " belongs to " + owner + "; stop it first");
    }
    if (code == ENOENT && !table_state(socket_)) {
        const std::string table = std::string("table ") + table_name;
        throw KernelError(ENOENT, table, table + " is gone: something else deleted it; apply again");
    }
    throw error_about(code, refusal.object);
}

bool NetlinkKernel::remove() {
    if (!table_state(socket_)) return false;
    NetlinkBatch batch = new_batch();
    batch.delete_table(table_name);
    batch.end();
    if (const auto refusals = attempt(batch); !refusals.empty()) fail(refusals.front());
    return true;
}

}  // namespace smtpfence
