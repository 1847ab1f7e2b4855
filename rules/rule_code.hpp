#pragma once
// One rule's expressions in the kernel's form: written statement by statement, brought to the canonical form in which
// the kernel's answer and our own rules compare equal, and searched for the sets and chains that they name.
//
//   Rule rule = RuleDraft().tcp_port_is_25(End::source).verdict(NF_DROP).rule("tcp sport 25 drop", "");

#include <memory>

#include "rules/fence.hpp"

struct nftnl_rule;
struct nftnl_expr;

namespace smtpfence {

struct FreeRule {
    void operator()(nftnl_rule*) const;
};
using OwnedRule = std::unique_ptr<nftnl_rule, FreeRule>;

enum class End { source, destination };

/// Collects statements in nft's own order. Every test writes what nft writes, so that nft lists the rule as it was
/// meant.
class RuleDraft {
public:
    RuleDraft();
    ~RuleDraft();
    RuleDraft(const RuleDraft&) = delete;
    RuleDraft& operator=(const RuleDraft&) = delete;

    RuleDraft& is_tcp(bool yes = true);               ///< meta l4proto tcp
    RuleDraft& port_is_25(End, bool yes = true);      ///< th dport 25, of any protocol
    RuleDraft& tcp_port_is_25(End, bool yes = true);  ///< tcp dport 25
    RuleDraft& opens_connection();                    ///< tcp flags syn / syn,ack (no test of the protocol)
    RuleDraft& address(Family, End);                  ///< ip saddr, into the register
    RuleDraft& masked(Family, uint8_t length);        ///< & 255.255.255.0
    /// @nh,32,32 & 0x3fff != 0x0: four bytes of the network header, which is what the kernel compares fastest.
    RuleDraft& header_word(uint32_t offset, uint32_t bits, uint32_t value, bool equal);
    RuleDraft& fragment();                                            ///< ip frag-off & 8191 != 0
    RuleDraft& later_fragment(Family);                                ///< ip frag-off & 8191 > 1; frag frag-off != 0
    RuleDraft& not_routed_back();                                     ///< fib saddr . iif oif missing
    RuleDraft& interface(End);                                        ///< iifname, oifname, into the register
    RuleDraft& in(const std::string& set);                            ///< @set
    RuleDraft& verdict_of(const std::string& map);                    ///< vmap @map
    RuleDraft& remember(const std::string& set);                      ///< update @set { ... }
    RuleDraft& counter();                                             ///< counter
    RuleDraft& reset();                                               ///< reject with tcp reset
    RuleDraft& verdict(int32_t code, const std::string& chain = {});  ///< accept, drop, return, jump and goto

    /// `nft` is the text that all this has in `nft list`.
    Rule rule(std::string nft, std::string comment) const;

private:
    nftnl_expr* append(const char* name);
    RuleDraft& load_meta(uint32_t key);
    RuleDraft& load_payload(uint32_t base, uint32_t offset, uint32_t size);
    RuleDraft& load_fragment_offset();
    RuleDraft& compare(uint32_t operation, const void* value, uint32_t size);
    RuleDraft& mask(const void* value, uint32_t size);

    nftnl_rule* rule_;
};

/// The expressions of a rule that libnftnl parsed. Counters become zero. Changes the rule.
std::string canonical_code(nftnl_rule&);

/// The sum of the rule's counters, in packets.
uint64_t counted_packets(nftnl_rule&);

/// Names of sets and chains that a rule looks into or goes to.
struct Mentions {
    std::vector<std::string> sets, chains;
};
Mentions mentions(const std::string& code);

}  // namespace smtpfence
