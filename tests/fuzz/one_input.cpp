// libFuzzer's entry, the same for all targets.

#include "property.hpp"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char* data, size_t size) {
    smtpfence::fuzz({reinterpret_cast<const char*>(data), size});
    return 0;
}
