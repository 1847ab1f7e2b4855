#pragma once
// What nf_tables refuses, in words: the object, the reason and the next step.

#include "rules/kernel.hpp"

namespace smtpfence {

/// `code`: errno. `object`: "set exempt4_32", "element 100.64.7.7 of set exempt4_32".
KernelError error_about(int code, const std::string& object);

}  // namespace smtpfence
