// Import files, --format csv.

#include "import_file.hpp"

void smtpfence::fuzz(std::string_view input) { fuzz_file(Format::csv, input); }
