#include <fcntl.h>

#include "controller/command_line.hpp"

namespace {

// A standard stream that came closed would be given to the next file that is opened, and messages written into it.
// What is opened here can be read from but not written to, so that lost output is noticed.
void occupy_standard_streams() {
    for (int descriptor = 0; descriptor < 3; ++descriptor) {
        if (fcntl(descriptor, F_GETFD) == -1 && open("/dev/null", O_RDONLY) != descriptor) return;
    }
}

}  // namespace

int main(int argc, char** argv) {
    occupy_standard_streams();
    return smtpfence::run_command_line(argc, argv);
}
