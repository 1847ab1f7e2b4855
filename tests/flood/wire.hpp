#pragma once
// Ethernet frames and the packet socket that sends them, for rigs that send faster than scapy does. Several frames go
// out with one system call, on one CPU from the first to the last step, past the queueing discipline.
//
//   Wire wire("line");
//   std::vector<Frame> frames{tcp_frame(link, {"100.64.1.1", "198.51.100.250", 40000, 25}, TH_SYN)};
//   wire.send(frames, 0, 1);

#include <net/ethernet.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace smtpfence {

/// Throws what the last system call says when `result` is negative.
int checked(int result, const char* what);

/// Throws std::runtime_error for what is none.
ether_addr parse_mac(const std::string& text);

/// Addresses of one family, and ports.
struct Flow {
    std::string from, to;
    uint16_t source_port = 0, port = 0;
};

struct Frame {
    std::vector<uint8_t> bytes;
    size_t transport_offset = 0;

    /// The sequence number of its TCP header.
    void number(uint32_t n);
};

/// Who sends to whom on the link.
struct Link {
    ether_addr own, router;
};

/// A segment with the flags of TH_..., with 32 hops to go. Its checksum is left zero: nobody on the way looks at it.
/// Throws std::runtime_error when the flow holds no addresses.
Frame tcp_frame(const Link&, const Flow&, uint8_t flags);
/// A datagram without content.
Frame udp_frame(const Link&, const Flow&);

class Wire {
public:
    static constexpr size_t most = 64;  ///< frames of one call

    /// Opens the socket in the calling thread's network namespace. Throws std::system_error.
    explicit Wire(const std::string& interface);
    Wire(Wire&& other) noexcept;
    Wire(const Wire&) = delete;
    Wire& operator=(const Wire&) = delete;
    ~Wire();

    /// Sends `count` (at most `most`) frames, going round from frame number `first` modulo their number. Returns how
    /// many of them the kernel took.
    size_t send(std::vector<Frame>& frames, size_t first, size_t count);

private:
    int socket_;
};

/// The calling thread runs on this CPU from now on.
void stay_on_cpu(int cpu);

}  // namespace smtpfence
