// policy.json (containers-policy.json(5)): which images may be used. Signatures cannot be verified
// yet, so what demands one is refused.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "imageservice/reference.h"

namespace imageservice {

// A parsed policy. Immutable value. The empty one, of a node without a policy, accepts anything.
class SignaturePolicy {
 public:
  SignaturePolicy() = default;

  // INVALID_ARGUMENT, beginning with `name`, for what makes no sense: unknown members and types,
  // members that are there twice, empty lists of requirements.
  static absl::StatusOr<SignaturePolicy> Parse(std::string_view json, const std::string& name);
  // nullopt when the file is missing.
  static absl::StatusOr<std::optional<SignaturePolicy>> Load(const std::string& path);

  // Whether an image may be pulled under this name. The requirements are those of the longest scope
  // that covers it: the whole reference, its repository, a namespace of it, its host, "*.domain" of
  // a domain above the host, ""; without one, those of "default". All have to hold. Registries are
  // compared as RegistryOf (credentials.h) has them: upper case and ":443" make no other registry.
  // PERMISSION_DENIED, whose message begins with "SignatureValidationFailed: " (the kubelet's word
  // for it), when one does not or is a demand for a signature.
  absl::Status Check(const Reference& reference) const;

 private:
  // The type of a requirement; what a signature must be like does not matter yet.
  enum class Requirement { kAcceptAnything, kReject, kSignedBy, kSigstoreSigned };
  using Requirements = std::vector<Requirement>;
  friend class PolicyReader;

  std::string name_;
  Requirements default_ = {Requirement::kAcceptAnything};
  std::map<std::string, Requirements> scopes_;  // Of the transport "docker".
};

}  // namespace imageservice
