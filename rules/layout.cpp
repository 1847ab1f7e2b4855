#include "rules/layout.hpp"

#include <fmt/format.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <bit>
#include <charconv>

#include "rules/rule_code.hpp"

namespace smtpfence {

namespace {

/// Distinguishes the objects of this layout from those of earlier ones, beside which they go in. Letters; it changes
/// when the meaning of an exemption set or a chain does. A build may name another one to prove the upgrade.
#ifdef SMTPFENCE_LAYOUT_SUFFIX
constexpr std::string_view layout_suffix = SMTPFENCE_LAYOUT_SUFFIX;
#else
constexpr std::string_view layout_suffix;
#endif

std::string of_layout(std::string name) { return name.append(layout_suffix); }

constexpr uint32_t attempts_size = 65536;
constexpr Seconds attempts_timeout{3600};

constexpr const char* later_fragment_comment = "later fragment: worthless without its first one";

constexpr std::array both_families = {Family::v4, Family::v6};

std::string digit(Family family) { return family == Family::v4 ? "4" : "6"; }

std::string field(Family family, End end) {
    return std::string(family == Family::v4 ? "ip " : "ip6 ") + (end == End::source ? "saddr" : "daddr");
}

std::string mask_text(Family family, uint8_t length) {
    Prefix::Address ones;
    ones.fill(0xff);
    return Prefix(family, Prefix(family, ones, length).address(), bits(family)).short_text();
}

std::string word_of(End end) { return end == End::source ? "source" : "destination"; }

// ip daddr @relay4 accept
Rule relay_rule(Family family, End end) {
    const std::string set = "relay" + digit(family);
    return RuleDraft()
        .address(family, end)
        .in(set)
        .verdict(NF_ACCEPT)
        .rule(field(family, end) + " @" + set + " accept", word_of(end) + " is a relay");
}

// ip6 saddr & ffff:ffff:ffff:ff00:: == @exempt6_56 return
Rule exempt_rule(const ExemptSet& exempt, End end) {
    const std::string set = exempt_set_name(exempt.family, exempt.length, exempt.capacity);
    const bool whole = exempt.length == bits(exempt.family);
    return RuleDraft()
        .address(exempt.family, end)
        .masked(exempt.family, exempt.length)
        .in(set)
        .verdict(NFT_RETURN)
        .rule(field(exempt.family, end) + (whole ? " " : " & " + mask_text(exempt.family, exempt.length) + " == ") +
                  "@" + set + " return",
              word_of(end) + " is exempt");
}

// ip saddr vmap @pool4
Rule pool_rule(Family family, End end) {
    const std::string map = "pool" + digit(family);
    return RuleDraft()
        .address(family, end)
        .verdict_of(map)
        .rule(field(family, end) + " vmap @" + map, word_of(end) + " is in a pool: its action");
}

// update @attempts4 { ip saddr }
Rule attempt_rule(Family family) {
    const std::string set = "attempts" + digit(family);
    return RuleDraft()
        .tcp_port_is_25(End::destination)
        .opens_connection()
        .address(family, End::source)
        .remember(set)
        .rule("tcp dport 25 tcp flags syn / syn,ack update @" + set + " { " + field(family, End::source) + " }",
              "connection attempts, not packets");
}

// jump attempt
Rule jump_rule(const std::string& chain, const std::string& comment) {
    return RuleDraft().verdict(NFT_JUMP, chain).rule("jump " + chain, comment);
}

// meta l4proto != tcp accept
Rule other_protocol_rule() {
    return RuleDraft().is_tcp(false).verdict(NF_ACCEPT).rule("meta l4proto != tcp accept", "not tcp");
}

// frag frag-off != 0 accept
Rule later_fragment6_rule() {
    return RuleDraft()
        .later_fragment(Family::v6)
        .verdict(NF_ACCEPT)
        .rule("frag frag-off != 0 accept", later_fragment_comment);
}

// th dport 25 goto mail
Rule to_port_25_rule() {
    return RuleDraft()
        .port_is_25(End::destination)
        .verdict(NFT_GOTO, "mail")
        .rule("th dport 25 goto mail", "to port 25");
}

// th sport 25 goto replies
Rule from_port_25_rule() {
    return RuleDraft()
        .port_is_25(End::source)
        .verdict(NFT_GOTO, "replies")
        .rule("th sport 25 goto replies", "from port 25");
}

/// A test of four bytes of the network header.
struct HeaderWord {
    uint32_t offset, bits, value;
    bool equal;
};

// Version and length of the header, the packet's length; "more fragments" and the fragment's offset (RFC 791).
constexpr HeaderWord plain4{0, 0xff000000, 0x45000000, true}, not_plain4{0, 0xff000000, 0x45000000, false};
constexpr HeaderWord cut4{0, 0xff00fffc, 0x45000014, true}, fragment4{4, 0x3fff, 0, false};
// The payload's length and the next header (RFC 8200).
constexpr HeaderWord not_tcp6{4, 0xff00, 0x0600, false}, not_udp6{4, 0xff00, 0x1100, false};
constexpr HeaderWord cut6{4, 0xfffcff00, 0x0600, true};

// @nh,0,32 & 0xff000000 == 0x45000000 @nh,32,32 & 0x3fff != 0x0 goto hidden
Rule hidden_rule(std::initializer_list<HeaderWord> words, const std::string& comment) {
    RuleDraft draft;
    std::string nft;
    for (const HeaderWord& word : words) {
        draft.header_word(word.offset, word.bits, word.value, word.equal);
        nft += fmt::format("@nh,{},32 & {:#x} {} {:#x} ", 8 * word.offset, word.bits,
                           word.equal ? "==" : "!=", word.value);
    }
    return draft.verdict(NFT_GOTO, "hidden").rule(nft + "goto hidden", comment);
}

// A packet that has neither port 25 matches no rule here: a verdict costs as much as several tests, and so does a field
// of "meta" or a mask of another size than four bytes (ARCHITECTURE.md has the numbers). What the words say of the
// other family's header is harmless: it leads to `hidden`, which looks closely, or is a later fragment. Fragments come
// before the ports, because kernels read "ports" from the middle of a segment.
std::vector<Rule> border_rules() {
    return {hidden_rule({plain4, fragment4}, "IPv4 fragment"),
            hidden_rule({not_plain4, not_tcp6, not_udp6}, "IPv4 options, IPv6 extension headers, other protocols"),
            hidden_rule({cut4}, "IPv4, cut before its ports"),
            hidden_rule({cut6}, "IPv6, cut before its ports"),
            to_port_25_rule(),
            from_port_25_rule()};
}

std::vector<Rule> mail_rules() {
    std::vector<Rule> rules = {other_protocol_rule(), jump_rule("outbound", "to port 25")};
    // tcp sport != 25 accept
    rules.push_back(RuleDraft()
                        .tcp_port_is_25(End::source, false)
                        .verdict(NF_ACCEPT)
                        .rule("tcp sport != 25 accept", "not from port 25 as well"));
    rules.push_back(jump_rule(of_layout("inbound"), "from port 25 as well"));
    return rules;
}

std::vector<Rule> replies_rules() {
    return {other_protocol_rule(), jump_rule(of_layout("inbound"), "what mail servers answer")};
}

// Ports that stand elsewhere, or nowhere.
std::vector<Rule> hidden_rules() {
    std::vector<Rule> rules = {other_protocol_rule()};
    // ip frag-off & 8191 > 1 accept
    rules.push_back(RuleDraft()
                        .later_fragment(Family::v4)
                        .verdict(NF_ACCEPT)
                        .rule("ip frag-off & 8191 > 1 accept", later_fragment_comment));
    rules.push_back(later_fragment6_rule());
    // ip frag-off & 8191 != 0 goto fragments
    rules.push_back(RuleDraft()
                        .fragment()
                        .verdict(NFT_GOTO, "fragments")
                        .rule("ip frag-off & 8191 != 0 goto fragments", "cuts the tcp header (RFC 3128)"));
    rules.push_back(to_port_25_rule());
    rules.push_back(from_port_25_rule());
    // th dport != 25 accept
    rules.push_back(RuleDraft()
                        .port_is_25(End::destination, false)
                        .verdict(NF_ACCEPT)
                        .rule("th dport != 25 accept", "readable, and neither port is 25"));
    // goto fragments
    rules.push_back(RuleDraft()
                        .verdict(NFT_GOTO, "fragments")
                        .rule("goto fragments", "no readable tcp header in a first fragment (RFC 7112)"));
    return rules;
}

std::vector<Rule> fragments_rules() {
    return {jump_rule("outbound", "judged like port 25: nobody needs that"),
            jump_rule(of_layout("inbound"), "judged like port 25: nobody needs that")};
}

std::vector<Rule> outbound_rules(const std::vector<ExemptSet>& exempt) {
    std::vector<Rule> rules;
    for (Family family : both_families) rules.push_back(relay_rule(family, End::destination));
    // fib saddr . iif oif missing iifname vmap @subscriber
    rules.push_back(RuleDraft()
                        .not_routed_back()
                        .interface(End::source)
                        .verdict_of("subscriber")
                        .rule("fib saddr . iif oif missing iifname vmap @subscriber",
                              "source is not routed back to this line: spoofed"));
    for (Family family : both_families) rules.push_back(relay_rule(family, End::source));
    for (const ExemptSet& set : exempt) rules.push_back(exempt_rule(set, End::source));
    for (Family family : both_families) rules.push_back(pool_rule(family, End::source));
    // iifname vmap @subscriber
    rules.push_back(RuleDraft()
                        .interface(End::source)
                        .verdict_of("subscriber")
                        .rule("iifname vmap @subscriber", "source outside every pool, on a subscriber interface"));
    return rules;
}

std::vector<Rule> inbound_rules(const std::vector<ExemptSet>& exempt) {
    std::vector<Rule> rules;
    for (Family family : both_families) rules.push_back(relay_rule(family, End::source));
    for (Family family : both_families) rules.push_back(relay_rule(family, End::destination));
    for (const ExemptSet& set : exempt) rules.push_back(exempt_rule(set, End::destination));
    for (Family family : both_families) rules.push_back(pool_rule(family, End::destination));
    // oifname vmap @subscriber
    rules.push_back(RuleDraft()
                        .interface(End::destination)
                        .verdict_of("subscriber")
                        .rule("oifname vmap @subscriber", "destination outside every pool, on a subscriber interface"));
    return rules;
}

std::vector<Rule> drop_rules() {
    // counter packets 0 bytes 0 drop
    return {jump_rule(of_layout("attempt"), "counts sources"),
            RuleDraft().counter().verdict(NF_DROP).rule("counter packets 0 bytes 0 drop", "action drop")};
}

std::vector<Rule> reject_rules() {
    // counter packets 0 bytes 0; meta l4proto tcp reject with tcp reset; drop
    return {jump_rule(of_layout("attempt"), "counts sources"),
            RuleDraft().counter().rule("counter packets 0 bytes 0", "action reject"),
            RuleDraft().is_tcp().reset().rule("meta l4proto tcp reject with tcp reset", "answered at once"),
            RuleDraft().verdict(NF_DROP).rule("drop", "ports out of sight: no reset possible")};
}

std::vector<Rule> observe_rules() {
    // counter packets 0 bytes 0
    return {jump_rule(of_layout("attempt"), "counts sources"),
            RuleDraft().counter().rule("counter packets 0 bytes 0", "action observe: judged on, not fenced")};
}

std::string exempt_name(const ExemptSet& set, std::string_view suffix) {
    std::string name = "exempt" + digit(set.family);
    name.append(suffix).append("_").append(std::to_string(set.length));
    return set.capacity == first_capacity ? name : name + "_" + std::to_string(set.capacity);
}

bool longest_first(const ExemptSet& a, const ExemptSet& b) {
    if (a.family != b.family) return a.family < b.family;
    if (a.length != b.length) return a.length > b.length;
    return a.capacity < b.capacity;
}

}  // namespace

std::string exempt_set_name(Family family, uint8_t length, uint32_t capacity) {
    return exempt_name({family, length, capacity}, layout_suffix);
}

std::optional<ExemptSet> parse_exempt_set_name(const std::string& name) {
    ExemptSet set{Family::v4, 0, first_capacity};
    if (name.starts_with("exempt6")) {
        set.family = Family::v6;
    } else if (!name.starts_with("exempt4")) {
        return std::nullopt;
    }
    const char* const end = name.data() + name.size();
    const char* const suffix = name.data() + 7;
    const char* const suffix_end = std::find_if(suffix, end, [](char c) { return c < 'a' || c > 'z'; });
    if (suffix_end == end || *suffix_end != '_') return std::nullopt;
    const auto length = std::from_chars(suffix_end + 1, end, set.length);
    if (length.ec == std::errc() && length.ptr != end && *length.ptr == '_') {
        std::from_chars(length.ptr + 1, end, set.capacity);
    }
    const bool ours =
        set.length <= bits(set.family) && set.capacity >= first_capacity && std::has_single_bit(set.capacity);
    // Only what we would write ourselves: "exempt4_032" is somebody else's.
    if (!ours || exempt_name(set, {suffix, suffix_end}) != name) return std::nullopt;
    return set;
}

std::vector<ExemptSet> exempt_sets_of(const Fence& fence) {
    std::vector<ExemptSet> sets;
    for (const auto& entry : fence.sets) {
        if (const auto set = parse_exempt_set_name(entry.first)) sets.push_back(*set);
    }
    return sets;
}

SetShape exempt_shape(const ExemptSet& set) {
    SetShape shape;
    shape.key = set.family == Family::v4 ? KeyKind::ipv4 : KeyKind::ipv6;
    shape.timeouts = true;
    shape.size = set.capacity;
    return shape;
}

const std::map<std::string, SetShape>& fixed_sets() {
    static const std::map<std::string, SetShape> sets = [] {
        std::map<std::string, SetShape> result;
        for (Family family : both_families) {
            SetShape shape;
            shape.key = family == Family::v4 ? KeyKind::ipv4 : KeyKind::ipv6;
            SetShape attempts = shape;
            attempts.dynamic = attempts.timeouts = true;
            attempts.size = attempts_size;
            attempts.timeout = attempts_timeout;
            result["attempts" + digit(family)] = attempts;
            shape.interval = true;
            result["relay" + digit(family)] = shape;
            shape.verdicts = true;
            result["pool" + digit(family)] = shape;
        }
        SetShape& subscriber = result["subscriber"];
        subscriber.key = KeyKind::interface;
        subscriber.interval = subscriber.verdicts = true;
        return result;
    }();
    return sets;
}

std::optional<SetShape> shape_of(const std::string& set) {
    if (const auto fixed = fixed_sets().find(set); fixed != fixed_sets().end()) return fixed->second;
    if (const auto exempt = parse_exempt_set_name(set)) return exempt_shape(*exempt);
    return std::nullopt;
}

size_t reading_rank(const std::string& name) {
    constexpr std::array<std::string_view, 17> order{
        "relay",    "pool",    "exempt",        "subscriber",      "attempts",
        "border",   "mail",    "replies",       "hidden",          "fragments",
        "outbound", "inbound", "consumer_drop", "consumer_reject", "consumer_observe",
        "attempt",  ""};
    return static_cast<size_t>(
        std::find_if(order.begin(), order.end(), [&](auto start) { return name.starts_with(start); }) - order.begin());
}

std::string action_chain(Action action) {
    return action == Action::pass ? std::string() : std::string("consumer_") + word(action);
}

std::string verdict_text(Action action) { return action == Action::pass ? "return" : "goto " + action_chain(action); }

std::map<std::string, Chain> chains_with(std::vector<ExemptSet> exempt) {
    std::sort(exempt.begin(), exempt.end(), longest_first);
    return {{"border", {Hook{}, border_rules()}},
            {"mail", {{}, mail_rules()}},
            {"replies", {{}, replies_rules()}},
            {"hidden", {{}, hidden_rules()}},
            {"fragments", {{}, fragments_rules()}},
            {"outbound", {{}, outbound_rules(exempt)}},
            {of_layout("inbound"), {{}, inbound_rules(exempt)}},
            {"consumer_drop", {{}, drop_rules()}},
            {"consumer_reject", {{}, reject_rules()}},
            {"consumer_observe", {{}, observe_rules()}},
            {of_layout("attempt"), {{}, {attempt_rule(Family::v4), attempt_rule(Family::v6)}}}};
}

void name_rules(Fence& fence) {
    std::map<std::string, std::string> nft_of;
    for (const auto& entry : chains_with(exempt_sets_of(fence))) {
        for (const Rule& rule : entry.second.rules) nft_of[rule.code] = rule.nft;
    }
    for (auto& entry : fence.chains) {
        for (Rule& rule : entry.second.rules) {
            if (const auto known = nft_of.find(rule.code); rule.nft.empty() && known != nft_of.end())
                rule.nft = known->second;
        }
    }
}

}  // namespace smtpfence
