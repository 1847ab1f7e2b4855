// The public statement. Its reader is a customer, a regulator or another network's postmaster, so it has neither the
// names of pools nor anything about a customer.

#include <fmt/format.h>

#include <algorithm>

#include "subscribers/export.hpp"
#include "subscribers/fenced.hpp"

namespace smtpfence {

namespace {

constexpr std::string_view what_is_blocked = R"(## What is blocked

Packets of the protocol TCP, over IPv4 and IPv6, on port 25 (SMTP between mail servers):

- from the addresses below to port 25 of any host, and
- from port 25 of any host to the addresses below, so that nobody elsewhere can send mail in the name of such an
  address.

Only the relays named below are reachable on port 25 from these addresses, in both directions. Traffic is never
redirected to another server.

)";

constexpr std::string_view what_is_not_blocked = R"(## What is not blocked

Sending mail with a mail program is not affected: the submission ports 587 and 465 are never blocked (RFC 5068, section
4.1; RFC 8314, section 3.3), towards any provider. Reading mail, the web and every other port and protocol are not
affected either.

)";

constexpr std::string_view why_it_is_blocked = R"(## Why

Customers send mail by submission (ports 587 and 465) to a mail provider. Port 25 is for mail servers among each other;
on a consumer's line its traffic comes almost only from computers that malware uses to send spam. Blocking it there
protects the recipients, the customer, and the reputation of our addresses. This is an industry practice (MAAWG 2005,
"Managing Port 25 for Residential or Dynamic IP Space"); no standard demands it.

)";

constexpr std::string_view who_is_exempt = R"(## Who is exempt, and how to ask

Any customer who runs a mail server, or has another use for port 25, can be exempted on request, for all addresses of
the line, IPv4 and IPv6. Ask customer support; state who asks and why. We record the request, its reason and its time.
An exemption ends after a stated time (usually a year) unless it is renewed, when the line ends, or when it is misused.

)";

constexpr std::string_view what_is_recorded = R"(## What is recorded

Attempts to use port 25 are counted per customer address. Neither contents nor a history of destinations are kept.
)";

const char* effect(Action action) {
    switch (action) {
        case Action::drop:
            return "blocked: packets are discarded";
        case Action::reject:
            return "blocked: connections are refused at once (TCP reset)";
        case Action::observe:
            return "not blocked: attempts are counted";
        case Action::pass:
            return "not blocked";
    }
    return "";
}

bool blocks(const Pool& pool) { return pool.action == Action::drop || pool.action == Action::reject; }

std::string addresses(const std::vector<Pool>& pools) {
    std::string text = "## Addresses\n\n";
    if (std::none_of(pools.begin(), pools.end(), blocks)) text += "At present no address is blocked.\n\n";
    if (pools.empty()) return text;
    text += "| addresses | port 25 |\n| --- | --- |\n";
    for (const Pool& pool : pools) text += fmt::format("| {} | {} |\n", pool.prefix.text(), effect(pool.action));
    return text + "\nWhere one range lies inside another, the smaller one decides.\n\n";
}

std::string reachable(const std::vector<Relay>& relays) {
    std::string text = "## Relays\n\nThese outbound mail relays are always reachable on port 25:\n\n";
    if (relays.empty()) return "## Relays\n\nNo relay is reachable on port 25.\n\n";
    for (const Relay& relay : relays) text += fmt::format("- {}\n", relay.prefix.text());
    return text + "\n";
}

}  // namespace

std::string disclosure(Database& database, Instant at) {
    const Reading reading(database);
    std::string text = fmt::format("# Blocking of port 25\n\nState of {}, revision {}.\n\n", format_instant(at),
                                   current_revision(database));
    text += what_is_blocked;
    text += addresses(pools(database));
    text += reachable(relays(database));
    text += what_is_not_blocked;
    text += why_it_is_blocked;
    text += who_is_exempt;
    text += what_is_recorded;
    return text;
}

}  // namespace smtpfence
