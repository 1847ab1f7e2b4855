#include <fcntl.h>

#include "controller/command_line.hpp"

namespace {

// A standard stream that came closed would be given to the next file that is opened, and messages written into it.
// What is opened here can't be read from where it stands for input nor written to where it stands for output, so that
// what is lost is noticed.
void occupy_standard_streams() {
    for (int descriptor = 0; descriptor < 3; ++descriptor) {
        const int mode = descriptor == 0 ? O_WRONLY : O_RDONLY;
        if (fcntl(descriptor, F_GETFD) == -1 && open("/dev/null", mode) != descriptor) return;
    }
}

}  // namespace

int main(int argc, char** argv) {
    occupy_standard_streams();
    return smtpfence::run_command_line(argc, argv);
}
