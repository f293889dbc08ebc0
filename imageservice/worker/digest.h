// Digests as images use them: "sha256:<hex>" and "sha512:<hex>".
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct evp_md_ctx_st;

namespace imageservice::worker {

// INVALID_ARGUMENT unless `digest` is one of the two algorithms with the right number of lower-case
// hexadecimal digits (OCI image-spec, descriptor.md).
absl::Status CheckDigest(std::string_view digest);

// The 64 digits of a sha256 digest; INVALID_ARGUMENT for anything else.
absl::StatusOr<std::string> Sha256Part(std::string_view digest);

// Hashes a stream. Not copyable; one thread at a time.
class Hasher {
 public:
  // Hashes with the algorithm of `digest`, which CheckDigest has accepted; sha256 otherwise.
  explicit Hasher(std::string_view digest);
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void Update(std::string_view bytes);
  // "<algorithm>:<hex>" of everything so far. To be called once.
  std::string Finish();

 private:
  const bool is_sha512_;
  evp_md_ctx_st* context_;
};

// DATA_LOSS, naming both digests, unless `bytes` have the digest `expected`.
absl::Status VerifyDigest(std::string_view bytes, std::string_view expected);

// SHA-256 of `bytes` as 64 hexadecimal digits.
std::string Sha256Hex(std::string_view bytes);

// The chain ID of a layer on top of `parent` (empty for the bottom layer); all of 64 digits (OCI
// image-spec, config.md, "Layer ChainID").
std::string ChainId(std::string_view parent, std::string_view diff_id);

}  // namespace imageservice::worker
