#include "controller/command_line.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <map>

#include "controller/commands.hpp"
#include "controller/standard_output.hpp"
#include "rules/kernel.hpp"

namespace smtpfence {

namespace {

struct Command {
    const char* words;
    const char* line;
    Execution (*declare)(CLI::App&);
    const char* examples;  ///< one a line
};

// The whole program.
constexpr Command commands[] = {
    {"init", "create the database, or migrate it to this program's schema", init_command,
     "smtpfence init\nsmtpfence init --database sqlite:/var/lib/smtpfence/subscribers.db"},

    {"relay add", "add prefixes of the ISP's outbound mail relays", relay_add,
     "smtpfence relay add 203.0.113.10 203.0.113.11 --note 'outbound cluster'\n"
     "smtpfence relay add 2001:db8:25::/64"},
    {"relay remove", "remove relays; the last one is kept while a pool drops or rejects", relay_remove,
     "smtpfence relay remove 203.0.113.11"},
    {"relay list", "list the relays", relay_list, "smtpfence relay list\nsmtpfence relay list --output json"},

    {"pool add", "add prefixes from which subscribers get addresses", pool_add,
     "smtpfence pool add 100.64.0.0/10 2001:db8:1000::/36 --name north\n"
     "smtpfence pool add 198.51.100.0/24 --name business --action pass"},
    {"pool set", "change what happens to port 25 of pools", pool_set,
     "smtpfence pool set 100.64.0.0/10 --action reject\nsmtpfence pool set --all --action observe"},
    {"pool remove", "remove pools: their port 25 is fenced no more", pool_remove,
     "smtpfence pool remove 100.64.0.0/10"},
    {"pool list", "list the pools", pool_list, "smtpfence pool list\nsmtpfence pool list --output csv"},

    {"customer show", "what a customer holds, the exemption, the last attempts", customer_show,
     "smtpfence customer show c1"},
    {"customer list", "list the customers", customer_list,
     "smtpfence customer list\nsmtpfence customer list --output jsonl"},

    {"assign", "give a customer prefixes, in addition to what he holds", assign_command,
     "smtpfence assign c1 100.64.3.7 2001:db8:1000:700::/56\n"
     "smtpfence assign c1 100.64.3.7 --until 2027-01-01T00:00:00Z\n"
     "smtpfence assign c2 100.64.3.7 --take --wait 5s"},
    {"release", "take prefixes back from whoever holds them", release_command,
     "smtpfence release 100.64.3.7 --wait 5s"},
    {"assignment list", "who holds what", assignment_list,
     "smtpfence assignment list\nsmtpfence assignment list --customer c1 --output json"},

    {"exempt grant", "let a customer use port 25, and wait until the routers enforce it", exempt_grant,
     "smtpfence exempt grant c1 --reason 'runs a mail server' --ticket T-1\n"
     "smtpfence exempt grant c1 --reason 'move of a server' --for 2w --wait 10s\n"
     "smtpfence exempt grant c1 --reason 'audit' --until 2027-01-01T00:00:00Z --no-wait"},
    {"exempt renew", "move the end of an exemption, counted from now", exempt_renew,
     "smtpfence exempt renew c1 --reason 'asked again' --for 365d"},
    {"exempt revoke", "take an exemption back, and wait until the routers enforce it", exempt_revoke,
     "smtpfence exempt revoke c1 --reason 'abuse report T-2'"},
    {"exempt show", "the last exemption of a customer", exempt_show, "smtpfence exempt show c1"},
    {"exempt list", "list the exemptions that hold", exempt_list,
     "smtpfence exempt list\nsmtpfence exempt list --expiring 30d --output csv"},

    {"import", "write many records at once: all of them or none", import_command,
     "smtpfence import leases.jsonl --format jsonl --source crm\n"
     "smtpfence import leases.csv --format csv --what assignments --dry-run\n"
     "generate | smtpfence import - --format jsonl --mode replace --source crm\n"
     "smtpfence import leases.csv --format csv --what assignments --mode replace --source crm"},
    {"export", "the records as import reads them, or a view of what is blocked", export_command,
     "smtpfence export --what assignments --format csv\n"
     "smtpfence export --what pbl\nsmtpfence export --what disclosure"},
    {"revert", "write the opposite of one revision", revert_command,
     "smtpfence revert 42 --dry-run\nsmtpfence revert 42"},
    {"audit", "the log of every change", audit_command,
     "smtpfence audit --customer c1\nsmtpfence audit --prefix 100.64.3.7 --since 2027-01-01T00:00:00Z --output jsonl"},

    {"check", "validate configuration and database without touching the kernel", check_command,
     "smtpfence check\nsmtpfence check --strict"},
    {"plan", "what apply would change, and why", plan_command,
     "smtpfence plan\nsmtpfence plan --format nft\nsmtpfence plan --output json"},
    {"apply", "bring the kernel to what the database asks, once", apply_command,
     "smtpfence apply\nsmtpfence apply --confirm"},
    {"restore", "load the last good fence: at boot, before there is a network or a database", restore_command,
     "smtpfence restore"},
    {"run", "the service: apply, then follow the database and the kernel until stopped", run_command,
     "smtpfence run\nsmtpfence --config /etc/smtpfence/config.toml run"},
    {"status", "what every router enforces", status_command,
     "smtpfence status\nsmtpfence status --watch\nsmtpfence status --output json"},
    {"router list", "list the routers that have reported", router_list, "smtpfence router list"},
    {"router forget", "drop a router that is gone from the list", router_forget, "smtpfence router forget edge7"},
    {"explain", "one answer: blocked or not, by which rule, who holds it, what the kernel holds", explain_command,
     "smtpfence explain 100.64.3.7\nsmtpfence explain 100.64.3.7 --to 203.0.113.10\n"
     "smtpfence explain c1\nsmtpfence explain 100.64.3.7 --at 2026-12-24T18:00:00Z"},
    {"probe", "send real packets through the compiled rules in a scratch network namespace; as root", probe_command,
     "smtpfence probe\nsmtpfence probe --output json"},
    {"attempts", "customers with attempts at port 25, as the kernels counted them", attempts_command,
     "smtpfence attempts --since 7d\nsmtpfence attempts --action observe --output csv"},
    {"clear", "remove the table from this router", clear_command, "smtpfence clear --yes"},
};

constexpr std::pair<const char*, const char*> groups[] = {
    {"relay", "the ISP's outbound mail relays"},
    {"pool", "prefixes from which subscribers get addresses"},
    {"customer", "the accounts"},
    {"assignment", "who holds what"},
    {"exempt", "opt-outs: customers who may use port 25"},
    {"router", "the routers that enforce"},
};

std::string example_block(const std::string& examples) {
    std::string block = "Examples:";
    for (size_t begin = 0; begin <= examples.size();) {
        const size_t end = std::min(examples.find('\n', begin), examples.size());
        block += "\n  " + examples.substr(begin, end - begin);
        begin = end + 1;
    }
    return block;
}

void declare_global_options(CLI::App& app, GlobalOptions& global) {
    app.add_option("--config", global.configuration, "configuration file; default /etc/smtpfence/config.toml")
        ->type_name("FILE");
    app.add_option("--database", global.database, "subscriber database, like sqlite:/var/lib/smtpfence/subscribers.db")
        ->type_name("URL")
        ->envname("SMTPFENCE_DATABASE");
    app.add_option("--output", global.output, "how data is printed; default table")->type_name("table|json|csv|jsonl");
    app.add_option("--color", global.color, "default auto; NO_COLOR is respected")->type_name("auto|always|never");
    app.add_option("--operator", global.operator_name, "who asks, recorded beside the login")
        ->type_name("NAME")
        ->envname("SMTPFENCE_OPERATOR");
    app.add_flag("--quiet", global.quiet, "no messages but warnings and errors");
}

/// The commands as CLI11 knows them, with what runs each.
class CommandTree {
public:
    CommandTree() {
        app_.require_subcommand(1);
        app_.set_version_flag("--version", "smtpfence " SMTPFENCE_VERSION);
        app_.footer(
            example_block("smtpfence relay add 203.0.113.10\nsmtpfence exempt grant c1 --reason 'runs a mail server'\n"
                          "smtpfence explain 100.64.3.7\nsmtpfence COMMAND --help"));
        declare_global_options(app_, global_);
        for (const Command& command : commands) declare(command);
    }

    /// Throws Refused (usage) that names a word which is no command, and CLI::ParseError for all else.
    void parse(int argc, const char* const* argv) {
        try {
            app_.parse(arguments(argc, argv));
        } catch (const CLI::RequiredError&) {
            const auto unknown = app_.remaining(true);
            if (!command_missing() || unknown.empty()) throw;
            throw Refused(Refusal::usage, fmt::format("unknown {} {}: see {} --help",
                                                      unknown.front().starts_with('-') ? "option" : "command",
                                                      quoted(unknown.front()), deepest()));
        }
    }

    CLI::App& app() { return app_; }
    const GlobalOptions& global() const { return global_; }

    const Execution& chosen() const {
        for (const auto& [app, execution] : executions_) {
            if (app->parsed()) return execution;
        }
        throw Refused(Refusal::usage, "no command: see smtpfence --help");
    }

    /// The words of the command as far as they were understood.
    std::string deepest() const {
        std::string all = app_.get_name();
        for (const CLI::App* app = &app_; !app->get_subcommands().empty();) {
            app = app->get_subcommands().front();
            all += " " + app->get_name();
        }
        return all;
    }

private:
    // The arguments as CLI11 wants them: the last one first. It would take the one after "--name=" for the value, which
    // therefore becomes one of its own.
    static std::vector<std::string> arguments(int argc, const char* const* argv) {
        std::vector<std::string> all;
        bool options = true;
        for (const std::string& word : std::vector<std::string>(argv + std::min(argc, 1), argv + argc)) {
            options = options && word != "--";
            if (options && word.starts_with("--") && word.find('=') == word.size() - 1) {
                all.push_back(word.substr(0, word.size() - 1));
                all.emplace_back();
            } else {
                all.push_back(word);
            }
        }
        std::reverse(all.begin(), all.end());
        return all;
    }

    bool command_missing() const {
        return std::none_of(executions_.begin(), executions_.end(),
                            [](const auto& one) { return one.first->parsed(); });
    }

    CLI::App& group(const std::string& name) {
        if (const auto known = groups_.find(name); known != groups_.end()) return *known->second;
        const auto line =
            std::find_if(std::begin(groups), std::end(groups), [&](const auto& g) { return name == g.first; });
        CLI::App* made = app_.add_subcommand(name, line->second);
        made->require_subcommand(1);
        made->fallthrough();
        groups_[name] = made;
        return *made;
    }

    void declare(const Command& command) {
        const std::string words = command.words;
        const size_t space = words.find(' ');
        CLI::App& parent = space == std::string::npos ? app_ : group(words.substr(0, space));
        CLI::App* app = parent.add_subcommand(words.substr(space == std::string::npos ? 0 : space + 1), command.line);
        app->fallthrough();
        app->footer(example_block(command.examples));
        if (&parent != &app_) {
            std::string& all = group_examples_[&parent];
            all += (all.empty() ? "" : "\n") +
                   std::string(command.examples).substr(0, std::string(command.examples).find('\n'));
            parent.footer(example_block(all));
        }
        executions_.emplace_back(app, command.declare(*app));
    }

    CLI::App app_{"smtpfence keeps consumers off port 25, except for those who opted out.", "smtpfence"};
    GlobalOptions global_;
    std::vector<std::pair<CLI::App*, Execution>> executions_;
    std::map<std::string, CLI::App*> groups_;
    std::map<CLI::App*, std::string> group_examples_;
};

void complain(std::string_view what) { std::cerr << "smtpfence: " << visible(what) << '\n'; }

// Standard output is where the data was promised to be: not getting all of it there is a failure. A reader that has
// seen enough needs no message.
int flushed(int code, const StandardOutput& output) {
    std::cout.flush();
    if (output.error() == 0) return code;
    if (output.error() != EPIPE) complain(fmt::format("standard output: {}", std::strerror(output.error())));
    return code == 0 ? 1 : code;
}

int exit_code(const CLI::ParseError& error) {
    const bool value =
        dynamic_cast<const CLI::ConversionError*>(&error) || dynamic_cast<const CLI::ValidationError*>(&error);
    return value ? 7 : 2;
}

int parse_and_run(CommandTree& tree, int argc, const char* const* argv) {
    try {
        tree.parse(argc, argv);
    } catch (const CLI::Success& asked) {  // --help, --version
        tree.app().exit(asked, std::cout, std::cerr);
        return 0;
    } catch (const CLI::ParseError& error) {
        complain(fmt::format("{}: see {} --help", error.what(), tree.deepest()));
        return exit_code(error);
    }
    Invocation invocation(tree.global());
    return tree.chosen()(invocation);
}

int guarded(CommandTree& tree, int argc, const char* const* argv) {
    try {
        return parse_and_run(tree, argc, argv);
    } catch (const Refused& refusal) {
        complain(refusal.what());
        return static_cast<int>(refusal.reason);
    } catch (const ConfigurationError& error) {
        complain(error.what());
        return error.denied ? 5 : 7;
    } catch (const DatabaseError& error) {
        complain(error.what());
        return error.kind == DatabaseError::Kind::denied ? 5 : 1;
    } catch (const KernelError& error) {
        complain(error.what());
        return error.code == EPERM || error.code == EACCES ? 5 : 1;
    } catch (const std::system_error& error) {
        complain(error.what());
        return error.code() == std::errc::permission_denied || error.code() == std::errc::operation_not_permitted ? 5
                                                                                                                  : 1;
    } catch (const std::exception& error) {
        if (std::cout) complain(error.what());  // else flushed() says why
        return 1;
    }
}

}  // namespace

std::vector<Prefix> parse_prefixes(const std::vector<std::string>& texts) {
    std::vector<Prefix> prefixes;
    prefixes.reserve(texts.size());
    for (const std::string& text : texts) prefixes.push_back(Prefix::parse(text));
    return prefixes;
}

int run_command_line(int argc, const char* const* argv) {
    StandardOutput output;
    std::streambuf* const before = std::cout.rdbuf(&output);
    CommandTree tree;
    const int code = flushed(guarded(tree, argc, argv), output);
    std::cout.rdbuf(before);
    return code;
}

}  // namespace smtpfence
