#pragma once
// Sessions at port 25 that connection tracking remembers. Our rules don't: they judge every packet. But a flow table
// lets the packets of a session that it carries skip all rules for as long as the session is tracked, so that one whose
// right has ended must be forgotten.
//
// Performance: the kernel walks through all that it tracks (about 0.1 s for a million) and tells only port 25.

#include <cstddef>
#include <functional>

#include "subscribers/prefix.hpp"

namespace smtpfence {

class Questioner;

/// Says whether the fence stops tcp between a line and port 25 of an address; both as they are behind address
/// translation, seen from the inside.
using Fenced = std::function<bool(const Prefix& line, const Prefix& server)>;

/// Makes connection tracking forget every tcp session with port 25 that is fenced; its next packet meets the rules.
/// Returns how many. Throws KernelError; a kernel that tracks nothing has nothing to forget.
size_t forget_sessions(Questioner&, const Fenced&);

}  // namespace smtpfence
