// import and export: many records at once.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <ext/stdio_filebuf.h>

#include <cerrno>
#include <iostream>
#include <memory>
#include <system_error>
#include <utility>

#include "controller/fenced_policy.hpp"
#include "controller/guarded_change.hpp"
#include "subscribers/import.hpp"
#include "subscribers/spool.hpp"

namespace smtpfence {

namespace {

Format parse_format(const std::string& word) {
    if (word == "jsonl") return Format::jsonl;
    if (word == "csv") return Format::csv;
    throw Refused(Refusal::invalid, fmt::format("--format \"{}\" is unknown: use jsonl or csv", visible(word)));
}

std::optional<What> find_what(const std::string& word) {
    if (word == "assignments") return What::assignments;
    if (word == "pools") return What::pools;
    if (word == "relays") return What::relays;
    if (word == "exemptions") return What::exemptions;
    return std::nullopt;
}

struct ImportWords {
    Text file, format, mode = "upsert", source = "import", what;
    bool dry_run = false, confirm = false;
    CLI::Option *has_source = nullptr, *has_what = nullptr;
};

ImportOptions parse_import(const ImportWords& words) {
    ImportOptions options;
    options.format = parse_format(words.format);
    if (words.has_what->count() > 0) {
        options.what = find_what(words.what);
        if (!options.what) {
            throw Refused(Refusal::invalid,
                          fmt::format("--what \"{}\" is unknown: use assignments, pools, relays or exemptions",
                                      visible(words.what)));
        }
    }
    if (words.mode != "upsert" && words.mode != "replace") {
        throw Refused(Refusal::invalid,
                      fmt::format("--mode \"{}\" is unknown: use upsert or replace", visible(words.mode)));
    }
    options.replace = words.mode == "replace";
    if (options.replace && words.has_source->count() == 0) {
        throw Refused(
            Refusal::usage,
            "--mode replace needs --source NAME: it removes what that source wrote before and the file does not name");
    }
    check_text("source", words.source);
    options.allow_loss = words.confirm;
    return options;
}

/// The file, or standard input for "-".
class Input {
public:
    explicit Input(const std::string& name) : name_(name == "-" ? "standard input" : visible(name)) {
        file_ = name == "-" ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) : open(name.c_str(), O_RDONLY | O_CLOEXEC);
        struct stat status {};
        if (file_ == -1 || fstat(file_, &status) != 0) refuse(errno);
        if (S_ISDIR(status.st_mode)) refuse(EISDIR);
        if ((fcntl(file_, F_GETFL) & O_ACCMODE) == O_WRONLY) refuse(EBADF);  // what stands in for none
        regular_ = S_ISREG(status.st_mode);
    }
    ~Input() {
        if (file_ != -1) close(file_);
    }
    Input(const Input&) = delete;
    Input& operator=(const Input&) = delete;

    /// Reads what is no regular file to its end, however long its producer takes, and keeps it. Before stream().
    void await(const std::function<void(int64_t bytes)>& progress) {
        if (regular_) return;
        const int kept = spooled(file_, name_, progress);
        close(std::exchange(file_, kept));
    }
    std::istream& stream() {
        // Unlike std::cin, this does not take a failed read for the end.
        buffer_ = std::make_unique<__gnu_cxx::stdio_filebuf<char>>(std::exchange(file_, -1), std::ios::in);
        stream_.rdbuf(buffer_.get());
        return stream_;
    }
    /// Bytes; 0: not known.
    int64_t size() const {
        struct stat status {};
        return fstat(file_, &status) == 0 ? status.st_size : 0;
    }

private:
    [[noreturn]] void refuse(int code) const {
        const std::string what = fmt::format("{}: {}", name_, std::generic_category().message(code));
        if (code == ENOENT)
            throw Refused(Refusal::not_found, what + ": name the file to import, or - for standard input");
        if (code == EISDIR) throw Refused(Refusal::invalid, what + ": name a file");
        throw std::system_error(code, std::generic_category(), name_);
    }
    std::string name_;  // for messages
    int file_ = -1;
    bool regular_ = false;
    std::unique_ptr<__gnu_cxx::stdio_filebuf<char>> buffer_;
    std::istream stream_{nullptr};
};

/// Drawn on standard error while it is a terminal.
class ProgressBar {
public:
    explicit ProgressBar(bool shown) : shown_(shown && isatty(STDERR_FILENO) == 1) {}
    ~ProgressBar() {
        if (drawn_) std::cerr << "\r\x1b[K" << std::flush;
    }
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;

    void expect(int64_t bytes) { size_ = bytes; }
    void draw_awaited(int64_t bytes) { show(fmt::format("{} MB received", bytes / 1'000'000)); }
    void draw(int64_t bytes, int64_t records) {
        if (!shown_) return;
        std::string bar;
        if (size_ > 0) {
            const auto filled = static_cast<size_t>(std::min<int64_t>(width, bytes * width / size_));
            bar = fmt::format("[{}{}] {:3d} %  ", std::string(filled, '#'), std::string(width - filled, ' '),
                              std::min<int64_t>(100, bytes * 100 / size_));
        }
        show(fmt::format("{}{} records", bar, records));
    }

private:
    void show(const std::string& text) {
        if (!shown_) return;
        drawn_ = true;
        std::cerr << "\r\x1b[K" << text << std::flush;
    }
    static constexpr int64_t width = 40;
    bool shown_, drawn_ = false;
    int64_t size_ = 0;
};

int run_import(Invocation& run, const ImportWords& words) {
    ImportOptions options = parse_import(words);
    options.relay_limits = run.configuration().relay;
    Input input(words.file);
    Database& database = run.database(OpenMode::write);
    std::optional<Change> change;
    const auto begin = [&]() -> Change& {
        if (!change) change.emplace(database, run.actor(), "import", std::nullopt, words.source);
        return *change;
    };
    ImportCounts counts;
    {
        ProgressBar bar(!run.output().quiet());
        input.await([&](int64_t bytes) { bar.draw_awaited(bytes); });
        bar.expect(input.size());
        options.progress = [&](int64_t bytes, int64_t records) { bar.draw(bytes, records); };
        counts = import_records(begin, database, input.stream(), words.source, options);
    }
    if (change) require_relay_left(run, *change);
    if (change) judge_openings(run, *change, words.confirm);
    Revision revision = 0;
    if (change && !words.dry_run) {
        revision = change->commit();
        if (moves_border(*change)) warn_doubts(run);
    } else {
        change.reset();
        revision = current_revision(database);
    }
    run.output().result({{"added", counts.added},
                         {"changed", counts.changed},
                         {"unchanged", counts.unchanged},
                         {"skipped", counts.skipped},
                         {"removed", counts.removed},
                         {"revision", revision},
                         {"dry_run", words.dry_run}},
                        fmt::format("{}{} added, {} changed, {} unchanged, {} skipped, {} removed; revision {}",
                                    words.dry_run ? "would be: " : "", counts.added, counts.changed, counts.unchanged,
                                    counts.skipped, counts.removed, revision));
    return 0;
}

struct ExportWords {
    Text what, source, format;
    CLI::Option *has_source = nullptr, *has_format = nullptr;
};

// The file format of an export: --format, else what --output asks for, else JSON lines.
Format export_format(Invocation& run, const ExportWords& words) {
    if (words.has_format->count() > 0) return parse_format(words.format);
    if (run.output().style() == Style::json) {
        throw Refused(Refusal::usage,
                      fmt::format("export --what {} writes files for import: use --format jsonl or csv", words.what));
    }
    return run.output().style() == Style::csv ? Format::csv : Format::jsonl;
}

// For what is no file for import: only text, or what --output asks for.
bool wants_text(Invocation& run, const ExportWords& words) {
    if (words.has_format->count() == 0) return run.output().style() == Style::table;
    if (words.format == "text") return true;
    throw Refused(Refusal::invalid,
                  fmt::format("--format \"{}\" does not fit --what {}: use text, or --output json, jsonl or csv",
                              visible(words.format), words.what));
}

void write_pbl(Invocation& run, bool text, Instant at) {
    if (text) {
        export_pbl(
            run.database(), [&](const Prefix& prefix) { run.output().data() << prefix.text() << '\n'; }, at);
        return;
    }
    Listing listing(run.output(), {{"prefix", "PREFIX"}});
    export_pbl(
        run.database(),
        [&](const Prefix& prefix) {
            listing.add({{"prefix", prefix.text()}});
        },
        at);
    listing.finish();
}

int run_export(Invocation& run, const ExportWords& words) {
    const Instant at = now();
    const auto source = given(words.has_source, words.source);
    if (source) check_text("source", *source);
    if (const auto what = find_what(words.what)) {
        const Format format = export_format(run, words);
        const Reading reading(run.database());
        export_records(run.database(), run.output().data(), *what, format, source, at);
        return 0;
    }
    if (words.what != "pbl" && words.what != "disclosure") {
        throw Refused(
            Refusal::invalid,
            fmt::format("--what \"{}\" is unknown: use assignments, pools, relays, exemptions, pbl or disclosure",
                        visible(words.what)));
    }
    if (source)
        throw Refused(Refusal::usage,
                      fmt::format("--source does not fit --what {}: it is about all sources", words.what));
    const bool text = wants_text(run, words);
    if (words.what == "pbl") {
        write_pbl(run, text, at);
    } else if (text) {
        run.output().data() << disclosure(run.database(), at);
    } else {
        const std::string statement = disclosure(run.database(), at);
        run.output().result({{"disclosure", statement}}, statement);
    }
    return 0;
}

}  // namespace

Execution import_command(CLI::App& app) {
    auto words = std::make_shared<ImportWords>();
    app.add_option("FILE", words->file, "file to read; - for standard input")->required();
    app.add_option("--format", words->format, "how records are written")->type_name("jsonl|csv")->required();
    app.add_option(
           "--mode", words->mode,
           "upsert (default), or replace: the file is all that --source has to say, or all of the kind that --what "
           "names; what it leaves out is removed, released or revoked")
        ->type_name("upsert|replace");
    words->has_source = app.add_option("--source", words->source, "who says so, stored with every row; default import")
                            ->type_name("NAME");
    words->has_what =
        app.add_option("--what", words->what, "only these: records need no op, and replace is about them only")
            ->type_name("assignments|pools|relays|exemptions");
    app.add_flag("--dry-run", words->dry_run, "check and count, write nothing");
    declare_confirm(app, words->confirm,
                    "; so is a file in replace mode that is empty or leaves the source with far fewer rows");
    return [=](Invocation& run) { return run_import(run, *words); };
}

Execution export_command(CLI::App& app) {
    auto words = std::make_shared<ExportWords>();
    app.add_option("--what", words->what,
                   "assignments, pools, relays or exemptions: files for import; pbl: blocked minus exempt; disclosure: "
                   "the public statement")
        ->type_name("assignments|pools|relays|exemptions|pbl|disclosure")
        ->required();
    words->has_source =
        app.add_option("--source", words->source, "only rows that this source wrote")->type_name("NAME");
    words->has_format = app.add_option("--format", words->format, "jsonl (default) or csv; text for pbl and disclosure")
                            ->type_name("jsonl|csv|text");
    return [=](Invocation& run) { return run_export(run, *words); };
}

}  // namespace smtpfence
