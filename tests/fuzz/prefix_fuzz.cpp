// Prefixes as people write them.

#include "subscribers/prefix.hpp"

#include "property.hpp"

void smtpfence::fuzz(std::string_view input) {
    const auto prefix = accepted([&] { return Prefix::parse(input); });
    if (!prefix) return;
    must("the text parses back", Prefix::parse(prefix->text()) == *prefix);
    must("the short text parses back", Prefix::parse(prefix->short_text()) == *prefix);
    must("the database's key leads back", Prefix::from_key(prefix->first_key(), prefix->length()) == *prefix);
    must("it contains its ends", prefix->contains(*prefix) && prefix->first_key() <= prefix->last_key());
    must("no host bits", Prefix(prefix->family(), prefix->address(), prefix->length()) == *prefix);
    const Prefix wider = prefix->widened(static_cast<uint8_t>(prefix->length() / 2));
    must("a wider one contains it", wider.contains(*prefix) && wider.overlaps(*prefix));
}
