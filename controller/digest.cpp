#include "controller/digest.hpp"

#include <fmt/format.h>
#include <gcrypt.h>

#include <stdexcept>

namespace smtpfence {

namespace {

void start_library() {
    static const bool ready = [] {
        const bool found = gcry_check_version(GCRYPT_VERSION) != nullptr;
        gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
        gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
        return found;
    }();
    if (!ready)
        throw std::runtime_error("libgcrypt is older than the one this program was built with: update libgcrypt20");
}

}  // namespace

struct Digest::State {
    State() {
        start_library();
        if (gcry_md_open(&handle, GCRY_MD_SHA256, 0) != 0) throw std::runtime_error("libgcrypt knows no SHA-256");
    }
    ~State() { gcry_md_close(handle); }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    gcry_md_hd_t handle = nullptr;
};

Digest::Digest() : state_(std::make_unique<State>()) {}
Digest::~Digest() = default;

void Digest::add(std::string_view text) { gcry_md_write(state_->handle, text.data(), text.size()); }

std::string Digest::text() {
    const unsigned char* bytes = gcry_md_read(state_->handle, GCRY_MD_SHA256);
    return fmt::format("{:02x}", fmt::join(bytes, bytes + gcry_md_get_algo_dlen(GCRY_MD_SHA256), ""));
}

}  // namespace smtpfence
