#include "imageservice/signature_policy.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/files.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/credentials.h"

namespace imageservice {
namespace {

constexpr size_t kMaxFile = 4 << 20;

// What an object may have. The members of `one_of` exclude each other, and one must be there.
struct Members {
  std::span<const std::string_view> allowed;
  std::span<const std::string_view> one_of;
};

constexpr std::string_view kSignedBy[] = {"keyType", "signedIdentity"};
constexpr std::string_view kSignedByKeys[] = {"keyPath", "keyPaths", "keyData"};
constexpr std::string_view kSigstore[] = {"rekorPublicKeyPath", "rekorPublicKeyPaths",
                                          "rekorPublicKeyData", "rekorPublicKeyDatas",
                                          "signedIdentity"};
constexpr std::string_view kSigstoreKeys[] = {"keyPath",  "keyPaths", "keyData",
                                              "keyDatas", "fulcio",   "pki"};

// A scope or name with its registry as RegistryOf has it: "QUAY.io:443/x" reaches the same server
// as "quay.io/x" and must not get round what is said of that.
std::string Normal(std::string_view name) {
  const size_t host = std::min(name.find('/'), name.size());
  return base::StrCat(RegistryOf(name.substr(0, host)), name.substr(host));
}

// The names that scopes may have for a reference, the longest first.
std::vector<std::string> ScopesOf(const Reference& reference) {
  std::vector<std::string> scopes = {Normal(reference.str())};
  std::string name = Normal(reference.repository());
  for (size_t slash = name.size(); slash != std::string::npos; slash = name.rfind('/')) {
    name.resize(slash);
    scopes.push_back(name);
  }
  const std::string registry = RegistryOf(reference.domain());
  std::string_view domain = registry;
  for (size_t dot = domain.find('.'); dot != std::string_view::npos; dot = domain.find('.')) {
    domain.remove_prefix(dot + 1);
    scopes.push_back(base::StrCat("*.", domain));
  }
  scopes.emplace_back();
  return scopes;
}

std::string Quoted(std::string_view text) { return base::StrCat("\"", text, "\""); }

}  // namespace

// Reads one document, with the path within it on every error.
class PolicyReader {
 public:
  explicit PolicyReader(const std::string& name) { policy_.name_ = name; }

  absl::StatusOr<SignaturePolicy> Read(const base::Json& document);

 private:
  using Requirement = SignaturePolicy::Requirement;

  absl::Status Invalid(std::string_view where, std::string_view why) const {
    return absl::InvalidArgumentError(base::StrCat(policy_.name_, ": ", where, ": ", why));
  }
  absl::StatusOr<SignaturePolicy::Requirements> ReadRequirements(const std::string& where,
                                                                 const base::Json& list) const;
  absl::StatusOr<Requirement> ReadRequirement(const std::string& where,
                                              const base::Json& object) const;
  absl::Status CheckMembers(const std::string& where, const base::Json& object,
                            const Members& members) const;
  absl::Status CheckIdentity(const std::string& where, const base::Json& identity) const;

  SignaturePolicy policy_;
};

absl::StatusOr<SignaturePolicy> PolicyReader::Read(const base::Json& document) {
  if (!document.is_object()) {
    return Invalid("the document", "an object is wanted");
  }
  for (const auto& [key, value] : document.items()) {
    if (key != "default" && key != "transports") {
      return Invalid(Quoted(key), "unknown member");
    }
  }
  ASSIGN_OR_RETURN(policy_.default_,
                   ReadRequirements("\"default\"", base::JsonMember(document, "default")));
  const base::Json& transports = base::JsonMember(document, "transports");
  if (!transports.is_null() && !transports.is_object()) {
    return Invalid("\"transports\"", "an object is wanted");
  }
  for (const auto& [transport, scopes] : transports.items()) {
    const std::string where = base::StrCat("transport ", Quoted(transport));
    if (!scopes.is_object()) {
      return Invalid(where, "an object is wanted");
    }
    for (const auto& [scope, list] : scopes.items()) {
      ASSIGN_OR_RETURN(SignaturePolicy::Requirements requirements,
                       ReadRequirements(base::StrCat(where, ", scope ", Quoted(scope)), list));
      if (transport == "docker") {
        SignaturePolicy::Requirements& all = policy_.scopes_[Normal(scope)];
        all.insert(all.end(), requirements.begin(), requirements.end());
      }
    }
  }
  return std::move(policy_);
}

absl::StatusOr<SignaturePolicy::Requirements> PolicyReader::ReadRequirements(
    const std::string& where, const base::Json& list) const {
  if (!list.is_array() || list.empty()) {
    return Invalid(where, "a list with at least one requirement is wanted");
  }
  SignaturePolicy::Requirements requirements;
  for (const base::Json& object : list) {
    ASSIGN_OR_RETURN(const Requirement requirement, ReadRequirement(where, object));
    requirements.push_back(requirement);
  }
  return requirements;
}

absl::StatusOr<PolicyReader::Requirement> PolicyReader::ReadRequirement(
    const std::string& where, const base::Json& object) const {
  const absl::StatusOr<std::string> type = base::JsonString(object, "type");
  if (!type.ok()) {
    return Invalid(where, "a requirement is an object with a \"type\"");
  }
  if (*type == "insecureAcceptAnything" || *type == "reject") {
    RETURN_IF_ERROR(CheckMembers(where, object, {}));
    return *type == "reject" ? Requirement::kReject : Requirement::kAcceptAnything;
  }
  if (*type == "signedBy") {
    RETURN_IF_ERROR(CheckMembers(where, object, {kSignedBy, kSignedByKeys}));
    const absl::StatusOr<std::string> key_type = base::JsonString(object, "keyType");
    if (!key_type.ok() || (*key_type != "GPGKeys" && *key_type != "signedByGPGKeys" &&
                           *key_type != "X509Certificates" && *key_type != "signedByX509CAs")) {
      return Invalid(where, "\"keyType\" is missing or unknown");
    }
    return Requirement::kSignedBy;
  }
  if (*type == "sigstoreSigned") {
    RETURN_IF_ERROR(CheckMembers(where, object, {kSigstore, kSigstoreKeys}));
    return Requirement::kSigstoreSigned;
  }
  return Invalid(where, base::StrCat("unknown type ", Quoted(*type)));
}

absl::Status PolicyReader::CheckMembers(const std::string& where, const base::Json& object,
                                        const Members& members) const {
  const auto has = [](std::span<const std::string_view> names, std::string_view key) {
    return std::find(names.begin(), names.end(), key) != names.end();
  };
  int chosen = 0;
  for (const auto& [key, value] : object.items()) {
    if (has(members.one_of, key)) {
      ++chosen;
    } else if (key != "type" && !has(members.allowed, key)) {
      return Invalid(where, base::StrCat("unknown member ", Quoted(key)));
    }
  }
  if (!members.one_of.empty() && chosen != 1) {
    return Invalid(where, "exactly one source of keys is wanted (\"keyPath\" or its like)");
  }
  const base::Json& identity = base::JsonMember(object, "signedIdentity");
  return identity.is_null() ? absl::OkStatus() : CheckIdentity(where, identity);
}

absl::Status PolicyReader::CheckIdentity(const std::string& where,
                                         const base::Json& identity) const {
  static constexpr std::pair<std::string_view, std::string_view> kMembersOf[] = {
      {"matchExact", ""},
      {"matchRepoDigestOrExact", ""},
      {"matchRepository", ""},
      {"exactReference", "dockerReference"},
      {"exactRepository", "dockerRepository"},
      {"remapIdentity", "prefix"},
      {"remapIdentity", "signedPrefix"}};
  const absl::StatusOr<std::string> type = base::JsonString(identity, "type");
  if (!type.ok() || std::none_of(std::begin(kMembersOf), std::end(kMembersOf),
                                 [&](const auto& entry) { return entry.first == *type; })) {
    return Invalid(where, "\"signedIdentity\" has no known \"type\"");
  }
  for (const auto& [key, value] : identity.items()) {
    const std::pair<std::string_view, std::string_view> member(*type, key);
    if (key != "type" &&
        std::find(std::begin(kMembersOf), std::end(kMembersOf), member) == std::end(kMembersOf)) {
      return Invalid(where, base::StrCat("\"signedIdentity\": unknown member ", Quoted(key)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<SignaturePolicy> SignaturePolicy::Parse(std::string_view json,
                                                       const std::string& name) {
  // Of two members of one name, which counts would depend on who reads.
  const absl::StatusOr<base::Json> document =
      base::ParseJson(json, base::DuplicateMembers::kRefuse);
  if (!document.ok()) {
    return base::Annotate(document.status(), name);
  }
  return PolicyReader(name).Read(*document);
}

absl::StatusOr<std::optional<SignaturePolicy>> SignaturePolicy::Load(const std::string& path) {
  const absl::StatusOr<std::string> text = base::ReadFile(path, kMaxFile);
  if (absl::IsNotFound(text.status())) {
    return std::optional<SignaturePolicy>();
  }
  RETURN_IF_ERROR(text.status());
  ASSIGN_OR_RETURN(SignaturePolicy policy, Parse(*text, path));
  return std::optional<SignaturePolicy>(std::move(policy));
}

absl::Status SignaturePolicy::Check(const Reference& reference) const {
  const Requirements* requirements = &default_;
  std::string where = "\"default\"";
  for (const std::string& scope : ScopesOf(reference)) {
    if (const auto found = scopes_.find(scope); found != scopes_.end()) {
      requirements = &found->second;
      where = base::StrCat("scope ", Quoted(scope));
      break;
    }
  }
  for (const Requirement requirement : *requirements) {
    if (requirement == Requirement::kAcceptAnything) {
      continue;
    }
    const std::string begin = base::StrCat("SignatureValidationFailed: ", reference.str(), " is ");
    if (requirement == Requirement::kReject) {
      return absl::PermissionDeniedError(
          base::StrCat(begin, "rejected by ", name_, " (", where, ")"));
    }
    return absl::PermissionDeniedError(
        base::StrCat(begin, "refused: ", name_, " (", where, ") demands a signature (",
                     requirement == Requirement::kSignedBy ? "signedBy" : "sigstoreSigned",
                     "), and this version of crisp cannot verify signatures"));
  }
  return absl::OkStatus();
}

}  // namespace imageservice
