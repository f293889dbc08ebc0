#include "imageservice/worker/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>

#include "base/strings.h"

namespace imageservice::worker {
namespace {

constexpr std::string_view kSha256 = "sha256:";
constexpr std::string_view kSha512 = "sha512:";

bool IsHex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// OpenSSL fails here only when out of memory, of which we die.
void MustSucceed(int result) {
  if (result != 1) {
    std::abort();
  }
}

}  // namespace

absl::Status CheckDigest(std::string_view digest) {
  const std::string_view hex = digest.substr(std::min(digest.size(), kSha256.size()));
  const bool is_good = (digest.starts_with(kSha256) && hex.size() == 64 && IsHex(hex)) ||
                       (digest.starts_with(kSha512) && hex.size() == 128 && IsHex(hex));
  if (!is_good) {
    return absl::InvalidArgumentError(
        base::StrCat("\"", digest.substr(0, 200), "\" is no sha256 or sha512 digest"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Sha256Part(std::string_view digest) {
  if (!digest.starts_with(kSha256) || !CheckDigest(digest).ok()) {
    return absl::InvalidArgumentError(
        base::StrCat("\"", digest.substr(0, 200), "\" is no sha256 digest"));
  }
  return std::string(digest.substr(kSha256.size()));
}

Hasher::Hasher(std::string_view digest)
    : is_sha512_(digest.starts_with(kSha512)), context_(EVP_MD_CTX_new()) {
  MustSucceed(context_ != nullptr ? 1 : 0);
  MustSucceed(EVP_DigestInit_ex(context_, is_sha512_ ? EVP_sha512() : EVP_sha256(), nullptr));
}

Hasher::~Hasher() { EVP_MD_CTX_free(context_); }

void Hasher::Update(std::string_view bytes) {
  MustSucceed(EVP_DigestUpdate(context_, bytes.data(), bytes.size()));
}

std::string Hasher::Finish() {
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  MustSucceed(EVP_DigestFinal_ex(context_, bytes, &length));
  constexpr char kHex[] = "0123456789abcdef";
  std::string text(is_sha512_ ? kSha512 : kSha256);
  for (unsigned int i = 0; i < length; ++i) {
    text += kHex[bytes[i] >> 4];
    text += kHex[bytes[i] & 15];
  }
  return text;
}

absl::Status VerifyDigest(std::string_view bytes, std::string_view expected) {
  Hasher hasher(expected);
  hasher.Update(bytes);
  const std::string actual = hasher.Finish();
  if (actual != expected) {
    return absl::DataLossError(base::StrCat("digest is ", actual, " instead of ", expected));
  }
  return absl::OkStatus();
}

std::string Sha256Hex(std::string_view bytes) {
  Hasher hasher(kSha256);
  hasher.Update(bytes);
  return hasher.Finish().substr(kSha256.size());
}

std::string ChainId(std::string_view parent, std::string_view diff_id) {
  if (parent.empty()) {
    return std::string(diff_id);
  }
  return Sha256Hex(base::StrCat(kSha256, parent, " ", kSha256, diff_id));
}

}  // namespace imageservice::worker
