#pragma once
// The conversation with nf_tables over one netlink socket: requests, dumps and batches. It knows how netlink answers,
// not what is asked.
//
// The socket lives as long as the process: closing one after something was deleted waits for a grace period while it
// holds the kernel's commit lock, and the table's ownership hangs on it.

#include <linux/netlink.h>

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smtpfence {

/// What the kernel said to one message.
struct Reply {
    uint32_t sequence = 0;
    int error = 0;        ///< errno, positive; 0: acknowledged
    uint32_t offset = 0;  ///< of the attribute that it refused, from the message's start; 0: not told
};

class NetlinkSocket {
public:
    /// Throws KernelError.
    NetlinkSocket();
    ~NetlinkSocket();
    NetlinkSocket(const NetlinkSocket&) = delete;
    NetlinkSocket& operator=(const NetlinkSocket&) = delete;

    /// What times of day in messages are by: the machine's uptime plus this; at first, the machine's clock.
    void set_clock(std::chrono::milliseconds since_start) { clock_ = since_start; }
    int64_t milliseconds_now() const;  ///< since 1970

    uint32_t port() const { return port_; }  ///< the kernel's name for this socket: a table's owner
    uint32_t next_sequence() { return ++sequence_; }
    /// Marks the sequence numbers up to `last` as used.
    void skip_sequences(uint32_t last) { sequence_ = last; }

    using Each = std::function<void(const nlmsghdr&)>;

    /// Sends one message that asks for an acknowledgement. Calls `each` for the answers; returns errno, 0 when it was
    /// answered.
    int ask(const std::string& message, const Each& each);
    /// Sends one message that asks for a dump. Calls `each` for every part. False: something changed meanwhile, so that
    /// the parts may not fit each other. Throws KernelError, except for what `missing` names: then nothing was there.
    bool dump(const std::string& message, const Each& each, int missing = 0);
    /// Sends a batch in one piece and returns every reply, in order. Throws KernelError ENOBUFS when replies were lost.
    std::vector<Reply> batch(const std::string& messages);

private:
    void reserve(size_t size);
    void send(const std::string& bytes);
    void forget_unread();
    /// One datagram; empty: nothing there (only when `wait` is false), or replies were lost (`lost`).
    std::string_view receive(bool wait, bool& lost);
    /// The datagrams that are there, at least one; valid until the next call. Throws KernelError ENOBUFS when one was
    /// lost.
    std::span<const std::string_view> receive_answers();

    int descriptor_ = -1;
    uint32_t port_ = 0;
    uint32_t sequence_ = 0;
    bool unread_ = false;  ///< receiving the answer to what was sent last failed, or is under way
    size_t send_limit_ = 0;
    std::unique_ptr<char[]> buffer_;  ///< what no answer fills takes no memory
    size_t buffer_size_ = 0;
    size_t answer_size_ = 0;                 ///< of which the buffer holds as many as are received at once
    std::vector<std::string_view> answers_;  ///< in the buffer
    std::chrono::milliseconds clock_;
};

}  // namespace smtpfence
