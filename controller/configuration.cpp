#include "controller/configuration.hpp"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>

#include "controller/actor.hpp"
#include "controller/output.hpp"
#include "subscribers/customer.hpp"

namespace smtpfence {

namespace {

// One value of the file and where it stands, for messages.
struct Setting {
    const std::string& file;
    std::string path;  ///< "relay.widest4"
    const toml::node& node;

    [[noreturn]] void refuse(const std::string& reason) const {
        throw ConfigurationError(fmt::format("{}:{}: {}: {}", file, node.source().begin.line, path, reason));
    }
    std::string text() const {
        if (const auto value = node.value_exact<std::string>()) return *value;
        refuse("must be a string: write it in quotes");
    }
    uint8_t length(int64_t most) const {
        const auto value = node.value_exact<int64_t>();
        if (!value || *value < 1 || *value > most) refuse(fmt::format("must be a prefix length, 1 to {}", most));
        return static_cast<uint8_t>(*value);
    }
    int64_t percent() const {
        const auto value = node.value_exact<int64_t>();
        if (!value || *value < 0 || *value > 100) refuse("must be a whole number of percent, 0 to 100");
        return *value;
    }
    /// Each of a list of strings, parsed.
    template <typename Parse>
    void each(const char* example, Parse parse) const {
        const toml::array* values = node.as_array();
        if (!values) refuse(fmt::format("must be a list: {}", example));
        for (const toml::node& value : *values) Setting{file, path, value}.parsed(parse);
    }
    // Runs a parser of the database side; its refusal becomes one that names the place.
    template <typename Parse>
    auto parsed(Parse parse) const {
        try {
            return parse(text());
        } catch (const Refused& refusal) {
            refuse(refusal.what());
        }
    }
    Seconds duration() const { return parsed(parse_duration); }
};

void set_database(Configuration& c, const Setting& s) {
    c.database = s.text();
    if (c.database.empty()) s.refuse("must name a database: sqlite:/var/lib/smtpfence/subscribers.db");
}

void set_router(Configuration& c, const Setting& s) {
    c.router = s.parsed([](const std::string& name) {
        check_text("router", name);
        return name;
    });
}

void set_state_directory(Configuration& c, const Setting& s) {
    c.state_directory = s.text();
    if (!c.state_directory.starts_with('/') || c.state_directory.find('\0') != std::string::npos) {
        s.refuse("must be an absolute path, like /var/lib/smtpfence");
    }
}

void set_subscriber(Configuration& c, const Setting& s) {
    c.border.subscriber.clear();
    s.each("[\"bng0\", \"vlan*\"]", [&](const std::string& name) {
        interface_key(name);
        c.border.subscriber.push_back(name);
        return name;
    });
}

void set_action(Configuration& c, const Setting& s) {
    c.border.action = s.parsed(parse_action);
    if (c.border.action == Action::pass) {
        s.refuse("pass would let spoofed sources out: use drop, reject or observe, or name no subscriber interfaces");
    }
}

void set_boot_pools(Configuration& c, const Setting& s) {
    s.each("[\"100.64.0.0/10\"]", [&](const std::string& prefix) {
        c.boot.pools.emplace_back(Prefix::parse(prefix), Action::drop);
        return prefix;
    });
    std::sort(c.boot.pools.begin(), c.boot.pools.end());
}

void set_boot_relays(Configuration& c, const Setting& s) {
    s.each("[\"192.0.2.10\"]", [&](const std::string& prefix) {
        c.boot.relays.push_back(Prefix::parse(prefix));
        return prefix;
    });
    std::sort(c.boot.relays.begin(), c.boot.relays.end());
}

// What one key can't know of another.
void check_together(const Configuration& c, const std::string& file) {
    if (!c.boot.pools.empty() && c.boot.relays.empty())
        throw ConfigurationError(
            fmt::format("{}: boot.relays: empty, so that boot.pools would stop all mail at boot; name the "
                        "outbound relays",
                        file));
}

struct Known {
    const char* path;
    void (*set)(Configuration&, const Setting&);
};
constexpr Known known_settings[] = {
    {"database", set_database},
    {"router", set_router},
    {"state_directory", set_state_directory},
    {"interfaces.subscriber", set_subscriber},
    {"interfaces.action", set_action},
    {"relay.widest4", [](Configuration& c, const Setting& s) { c.relay.widest4 = s.length(32); }},
    {"relay.widest6", [](Configuration& c, const Setting& s) { c.relay.widest6 = s.length(128); }},
    {"history.keep", [](Configuration& c, const Setting& s) { c.keep = s.duration(); }},
    {"boot.pools", set_boot_pools},
    {"boot.relays", set_boot_relays},
    {"guard.max_release_percent",
     [](Configuration& c, const Setting& s) { c.guard.max_release_percent = s.percent(); }},
    {"guard.max_exempt_percent", [](Configuration& c, const Setting& s) { c.guard.max_exempt_percent = s.percent(); }},
    {"follow.poll", [](Configuration& c, const Setting& s) { c.poll = s.duration(); }},
    {"follow.verify", [](Configuration& c, const Setting& s) { c.verify = s.duration(); }},
};

bool is_section(std::string_view path) {
    const std::string prefix = std::string(path) + ".";
    return std::any_of(std::begin(known_settings), std::end(known_settings),
                       [&](const Known& k) { return std::string_view(k.path).starts_with(prefix); });
}

std::string known_paths() {
    std::string all;
    for (const Known& k : known_settings) all += (all.empty() ? "" : ", ") + std::string(k.path);
    return all;
}

void read_table(Configuration& configuration, const std::string& file, const toml::table& table,
                const std::string& above) {
    for (const auto& [key, node] : table) {
        const std::string path = above + std::string(key.str());
        const Setting setting{file, visible(path), node};
        const auto found = std::find_if(std::begin(known_settings), std::end(known_settings),
                                        [&](const Known& k) { return path == k.path; });
        if (found != std::end(known_settings)) {
            found->set(configuration, setting);
        } else if (is_section(path) && node.is_table()) {
            read_table(configuration, file, *node.as_table(), path + ".");
        } else if (is_section(path)) {
            setting.refuse(fmt::format("must be a section: [{}]", path));
        } else {
            setting.refuse(fmt::format("unknown key; known are {}", known_paths()));
        }
    }
}

}  // namespace

Configuration read_configuration(const std::string& path, bool may_be_missing) {
    Configuration configuration;
    configuration.router = host_name();
    const std::string file = visible(path);
    std::ifstream stream(path);
    if (!stream && errno == ENOENT && may_be_missing) return configuration;
    std::ostringstream text;
    if (!stream || (stream.peek() != std::ifstream::traits_type::eof() && !(text << stream.rdbuf())) || stream.bad()) {
        const int code = errno;
        const bool denied = code == EACCES;
        throw ConfigurationError(
            fmt::format("{}: {}: {}", file, std::strerror(code),
                        denied ? "run as root or as a user who may read it" : "name another file with --config"),
            denied);
    }
    try {
        read_table(configuration, file, toml::parse(text.str(), file), "");
    } catch (const toml::parse_error& error) {
        throw ConfigurationError(
            fmt::format("{}:{}: not valid TOML: {}", file, error.source().begin.line, visible(error.description())));
    }
    check_together(configuration, file);
    configuration.guard.relay = configuration.relay;
    return configuration;
}

const std::string& database_of(const Configuration& configuration, const std::string& named) {
    const std::string& url = named.empty() ? configuration.database : named;
    if (url.empty())
        throw ConfigurationError("no database: name it in the configuration's 'database' or with --database");
    try {
        check_database_url(url);
    } catch (const Refused& refused) {
        throw ConfigurationError(refused.what());
    }
    return url;
}

}  // namespace smtpfence
