// Customer ids, texts that are stored, and foreign text in messages.

#include "subscribers/text.hpp"

#include <nlohmann/json.hpp>

#include "property.hpp"
#include "subscribers/customer.hpp"

namespace {

/// Another program's opinion.
bool json_takes(std::string_view text) {
    try {
        return !nlohmann::json(text).dump().empty();
    } catch (const nlohmann::json::type_error&) {
        return false;
    }
}

}  // namespace

void smtpfence::fuzz(std::string_view input) {
    must("UTF-8 is what a JSON string may hold", is_utf8(input) == json_takes(input));
    const std::string shown = quoted(input);
    must("quoted text is printable", is_utf8(shown) && !has_control(shown));
    must("quoted text is short", shown.size() >= 2 && shown.size() < 400);
    const auto id = accepted([&] { return check_customer_id(input), true; });
    const auto text = accepted([&] { return check_text("reason", input), true; });
    if (id || text) must("what is stored is printable UTF-8", is_utf8(input) && !has_control(input) && !input.empty());
    if (id)
        must("an id is short and without outer spaces",
             input.size() <= 255 && input.front() != ' ' && input.back() != ' ');
    if (text) must("a text is bounded", input.size() <= 1000);
}
