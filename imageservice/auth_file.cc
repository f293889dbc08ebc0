#include "imageservice/auth_file.h"

#include <utility>

#include "base/files.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/credential_helpers.h"
#include "imageservice/credentials.h"

namespace imageservice {
namespace {

constexpr size_t kMaxFile = 1 << 20;

absl::StatusOr<worker::Credentials> ParseEntry(const base::Json& entry) {
  ASSIGN_OR_RETURN(const std::string auth, base::JsonString(entry, "auth"));
  ASSIGN_OR_RETURN(const std::string identity_token, base::JsonString(entry, "identitytoken"));
  worker::Credentials credentials;
  if (!auth.empty()) {
    ASSIGN_OR_RETURN(credentials, DecodeBasic(auth));
  }
  if (!identity_token.empty()) {
    credentials = {.identity_token = identity_token};
  }
  return credentials;
}

// The form in which keys are compared. Keys with a scheme are URLs of version 1 registries, whose
// path says nothing; others may name a repository.
std::string KeyOf(std::string_view key) {
  if (key.find("://") != std::string_view::npos) {
    return RegistryOf(key);
  }
  const size_t slash = key.find('/');
  std::string normal = RegistryOf(key);
  if (slash != std::string_view::npos) {
    normal += key.substr(slash);
  }
  while (!normal.empty() && normal.back() == '/') {
    normal.pop_back();
  }
  return normal == "docker.io/v1" ? "docker.io" : normal;
}

}  // namespace

absl::StatusOr<std::optional<AuthFile>> AuthFile::Load(const std::string& path, Format format) {
  absl::StatusOr<std::string> text = base::ReadFile(path, kMaxFile);
  if (absl::IsNotFound(text.status())) {
    return std::optional<AuthFile>();
  }
  RETURN_IF_ERROR(text.status());
  absl::StatusOr<AuthFile> file = Parse(*text, format);
  if (!file.ok()) {
    return base::Annotate(file.status(), path);
  }
  return std::optional<AuthFile>(*std::move(file));
}

absl::StatusOr<AuthFile> AuthFile::Parse(std::string_view json, Format format) {
  // Neither the parser's words nor those of the readers are passed on: they quote what they
  // stumbled over, which may be a secret.
  const absl::StatusOr<base::Json> document = base::ParseJson(json);
  if (!document.ok() || !document->is_object()) {
    return absl::InvalidArgumentError("not a JSON object");
  }
  AuthFile file;
  const base::Json& auths =
      format == Format::kDockercfg ? *document : base::JsonMember(*document, "auths");
  if (!auths.is_null() && !auths.is_object()) {
    return absl::InvalidArgumentError("\"auths\" is not an object");
  }
  for (const auto& [key, value] : auths.items()) {
    absl::StatusOr<worker::Credentials> credentials = ParseEntry(value);
    if (!credentials.ok()) {
      credentials =
          absl::InvalidArgumentError(base::StrCat("the entry for ", key, " makes no sense"));
    }
    if (!credentials.ok() || !IsAnonymous(*credentials)) {
      file.entries_.emplace(KeyOf(key), std::move(credentials));
    }
  }
  if (format == Format::kDockercfg) {
    return file;
  }
  const absl::StatusOr<std::map<std::string, std::string>> helpers =
      base::JsonStringMap(*document, "credHelpers");
  const absl::StatusOr<std::string> store = base::JsonString(*document, "credsStore");
  if (!helpers.ok() || !store.ok()) {
    return absl::InvalidArgumentError("\"credHelpers\" or \"credsStore\" names no helper");
  }
  for (const auto& [key, helper] : *helpers) {
    RETURN_IF_ERROR(CheckHelperName(helper));
    file.helpers_.emplace(RegistryOf(key), HelperQuestion{.helper = helper, .server = key});
  }
  if (!store->empty()) {
    RETURN_IF_ERROR(CheckHelperName(*store));
    file.store_ = *store;
  }
  return file;
}

std::optional<HelperQuestion> AuthFile::Helper(std::string_view registry) const {
  const std::string normal = RegistryOf(registry);
  if (const auto helper = helpers_.find(normal); helper != helpers_.end()) {
    return helper->second.helper.empty() ? std::nullopt : std::optional(helper->second);
  }
  if (store_.empty()) {
    return std::nullopt;
  }
  return HelperQuestion{.helper = store_,
                        // Its name since before there was another.
                        .server = normal == "docker.io" ? "https://index.docker.io/v1/" : normal};
}

absl::StatusOr<std::optional<worker::Credentials>> AuthFile::Find(
    std::string_view registry, std::string_view repository) const {
  std::string key = base::StrCat(RegistryOf(registry), "/", repository);
  for (;;) {
    if (const auto found = entries_.find(key); found != entries_.end()) {
      RETURN_IF_ERROR(found->second.status());
      return std::optional<worker::Credentials>(*found->second);
    }
    const size_t slash = key.rfind('/');
    if (slash == std::string::npos) {
      return std::optional<worker::Credentials>();
    }
    key.resize(slash);
  }
}

}  // namespace imageservice
