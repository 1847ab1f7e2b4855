#include "rules/surroundings.hpp"

#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "rules/netlink_message.hpp"
#include "rules/question.hpp"

namespace smtpfence {

namespace {

constexpr int most_dumps = 5;            // while something keeps changing
constexpr uint32_t skip_statistics = 8;  // RTEXT_FILTER_SKIP_STATS

/// This kernel has no such thing, so that there is none of it.
bool unknown(int code) {
    return code == EOPNOTSUPP || code == EPROTONOSUPPORT || code == EINVAL || code == ENOENT || code == EAFNOSUPPORT;
}

Interface interface_in(const nlmsghdr& message) {
    const auto& header = *static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(&message));
    const std::string_view all = behind(message, sizeof header);
    const std::string_view link = in(all, IFLA_LINKINFO);
    Interface one;
    one.index = static_cast<uint32_t>(header.ifi_index);
    one.name = text(in(all, IFLA_IFNAME));
    one.kind = text(in(link, IFLA_INFO_KIND));
    one.master = number(in(all, IFLA_MASTER));
    one.master_kind = text(in(link, IFLA_INFO_SLAVE_KIND));
    if (one.master_kind == "bridge")
        one.isolated = number(in(in(link, IFLA_INFO_SLAVE_DATA), IFLA_BRPORT_ISOLATED)) != 0;
    // In another namespace, or below itself: not here.
    const uint32_t below = attribute(all, IFLA_LINK_NETNSID) ? 0 : number(in(all, IFLA_LINK));
    if (below != one.index) one.below = below;
    one.xdp = number(in(in(all, IFLA_XDP), IFLA_XDP_ATTACHED)) != XDP_ATTACHED_NONE;
    return one;
}

std::string family_name(uint8_t family) {
    switch (family) {
        case NFPROTO_IPV4:
            return "ip";
        case NFPROTO_IPV6:
            return "ip6";
        case NFPROTO_NETDEV:
            return "netdev";
        case NFPROTO_BRIDGE:
            return "bridge";
        default:
            return "inet";
    }
}

std::string table_in(const nlmsghdr& message, std::string_view name) {
    const auto& header = *static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(&message));
    return family_name(header.nfgen_family) + " " + text(name);
}

Flowtable flowtable_in(const nlmsghdr& message) {
    const std::string_view all = behind(message, sizeof(nfgenmsg));
    Flowtable one{table_in(message, in(all, NFTA_FLOWTABLE_TABLE)), text(in(all, NFTA_FLOWTABLE_NAME)), {}};
    each_attribute(in(in(all, NFTA_FLOWTABLE_HOOK), NFTA_FLOWTABLE_HOOK_DEVS),
                   [&](const Attribute& device) { one.devices.push_back(device.name()); });
    std::sort(one.devices.begin(), one.devices.end());
    return one;
}

/// "chain ingress of table netdev early" when the rule forwards (its words are `fwd to`), else empty.
std::string forwarding_chain(const nlmsghdr& message) {
    const std::string_view all = behind(message, sizeof(nfgenmsg));
    bool forwards = false;
    each_attribute(in(all, NFTA_RULE_EXPRESSIONS), [&](const Attribute& expression) {
        forwards = forwards || text(in(expression.payload, NFTA_EXPR_NAME)) == "fwd";
    });
    if (!forwards) return {};
    return "chain " + text(in(all, NFTA_RULE_CHAIN)) + " of table " + table_in(message, in(all, NFTA_RULE_TABLE));
}

/// The interface that an action of a tc filter redirects to; 0: it doesn't.
uint32_t redirected_to(std::string_view action) {
    if (text(in(action, TCA_ACT_KIND)) != "mirred") return 0;
    const std::string_view parameters = in(in(action, TCA_ACT_OPTIONS), TCA_MIRRED_PARMS);
    tc_mirred mirred{};
    if (parameters.size() < sizeof mirred) return 0;
    std::memcpy(&mirred, parameters.data(), sizeof mirred);
    const bool redirects = mirred.eaction == TCA_EGRESS_REDIR || mirred.eaction == TCA_INGRESS_REDIR;
    return redirects ? mirred.ifindex : 0;
}

/// What a tc filter at ingress sends elsewhere. A classifier's actions stand under a number of its own.
std::vector<Redirection> redirections_in(const nlmsghdr& message) {
    static const std::map<std::string, uint16_t> action_lists{
        {"basic", TCA_BASIC_ACT},       {"u32", TCA_U32_ACT}, {"flower", TCA_FLOWER_ACT},
        {"matchall", TCA_MATCHALL_ACT}, {"fw", TCA_FW_ACT},   {"route", TCA_ROUTE4_ACT}};
    const auto& header = *static_cast<const tcmsg*>(mnl_nlmsg_get_payload(&message));
    const auto index = static_cast<uint32_t>(header.tcm_ifindex);
    const std::string_view all = behind(message, sizeof header);
    const std::string kind = text(in(all, TCA_KIND));
    if (kind == "bpf") return {{index, "a tc program (bpf)", 0}};
    const auto list = action_lists.find(kind);
    if (list == action_lists.end()) return {};
    std::vector<Redirection> found;
    each_attribute(in(in(all, TCA_OPTIONS), list->second), [&](const Attribute& action) {
        if (const uint32_t target = redirected_to(action.payload))
            found.push_back({index, "tc filter " + kind, target});
    });
    return found;
}

namespace fs = std::filesystem;

/// Of this network namespace.
const fs::path settings = "/proc/sys/net";

/// 0 when it is missing.
long setting(const fs::path& path) {
    long value = 0;
    std::ifstream(path) >> value;
    return value;
}

/// Asks one thing after the other and notes what was refused.
class Inquiry {
public:
    Inquiry(Questioner& questioner, Surroundings& around) : questioner_(questioner), around_(around) {}

    void interfaces() {
        Question question(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
        mnl_attr_put_u32(question.message(), IFLA_EXT_MASK, skip_statistics);
        ask(NETLINK_ROUTE, question, "interfaces", around_.interfaces,
            [](const nlmsghdr& message, std::vector<Interface>& all) { all.push_back(interface_in(message)); });
        std::sort(around_.interfaces.begin(), around_.interfaces.end(),
                  [](const Interface& a, const Interface& b) { return a.index < b.index; });
    }

    void flowtables() {
        Question question = netfilter_question(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETFLOWTABLE, NLM_F_DUMP, NFPROTO_UNSPEC);
        ask(NETLINK_NETFILTER, question, "flow tables", around_.flowtables,
            [](const nlmsghdr& message, std::vector<Flowtable>& all) { all.push_back(flowtable_in(message)); });
    }

    void ingress_chains() {
        std::vector<std::string> chains;
        Question question = netfilter_question(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETRULE, NLM_F_DUMP, NFPROTO_NETDEV);
        ask(NETLINK_NETFILTER, question, "chains before the forward hook", chains,
            [](const nlmsghdr& message, std::vector<std::string>& all) {
                if (std::string chain = forwarding_chain(message); !chain.empty()) all.push_back(std::move(chain));
            });
        std::sort(chains.begin(), chains.end());
        chains.erase(std::unique(chains.begin(), chains.end()), chains.end());
        for (const std::string& chain : chains) around_.redirections.push_back({0, chain, 0});
    }

    void ingress_filters() {
        std::vector<int> filtered;
        Question question(RTM_GETQDISC, NLM_F_DUMP, tcmsg{});
        ask(NETLINK_ROUTE, question, "queueing disciplines", filtered,
            [](const nlmsghdr& message, std::vector<int>& all) {
                const auto& header = *static_cast<const tcmsg*>(mnl_nlmsg_get_payload(&message));
                if (header.tcm_parent == TC_H_INGRESS) all.push_back(header.tcm_ifindex);
            });
        for (const int index : filtered) filters_of(index);
    }

    /// Only the proc file system tells it without walking through all routes.
    void labels() {
        const fs::path mpls = settings / "mpls";
        if (setting(mpls / "platform_labels") == 0) return;
        std::error_code missing;
        for (const auto& interface : fs::directory_iterator(mpls / "conf", missing)) {
            if (setting(interface.path() / "input") != 0) around_.labelled.push_back(interface.path().filename());
        }
        std::sort(around_.labelled.begin(), around_.labelled.end());
    }

    void bridged() {
        const fs::path bridge = settings / "bridge";
        around_.bridged_untagged =
            setting(bridge / "bridge-nf-call-iptables") != 0 && setting(bridge / "bridge-nf-call-ip6tables") != 0;
    }

private:
    /// `add` takes one part of the answer into `all`.
    template <typename All, typename Add>
    void ask(int bus, Question& question, const std::string& what, All& all, Add add) {
        int code = EINTR;
        for (int reading = 0; code == EINTR && reading < most_dumps; ++reading) {
            all.clear();
            code = questioner_.ask(bus, question, [&](const nlmsghdr& message) { add(message, all); });
        }
        if (code != 0 && !unknown(code)) around_.unasked.push_back(what + ": " + std::strerror(code));
    }

    void filters_of(int index) {
        tcmsg header{};
        header.tcm_ifindex = index;
        header.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
        std::vector<Redirection> found;
        Question question(RTM_GETTFILTER, NLM_F_DUMP, header);
        ask(NETLINK_ROUTE, question, "tc filters of interface " + std::to_string(index), found,
            [](const nlmsghdr& message, std::vector<Redirection>& all) {
                for (Redirection& one : redirections_in(message)) all.push_back(std::move(one));
            });
        around_.redirections.insert(around_.redirections.end(), found.begin(), found.end());
    }

    Questioner& questioner_;
    Surroundings& around_;
};

}  // namespace

Surroundings read_surroundings(Questioner& questioner) {
    Surroundings around;
    Inquiry inquiry(questioner, around);
    inquiry.interfaces();
    inquiry.flowtables();
    inquiry.ingress_chains();
    inquiry.ingress_filters();
    inquiry.labels();
    inquiry.bridged();
    return around;
}

bool offloads_flows(Questioner& questioner) {
    Surroundings around;
    Inquiry(questioner, around).flowtables();
    return std::any_of(around.flowtables.begin(), around.flowtables.end(),
                       [](const Flowtable& one) { return !one.devices.empty(); });
}

}  // namespace smtpfence
