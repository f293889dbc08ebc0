#include "imageservice/credential_helpers.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "imageservice/credentials.h"

namespace imageservice {
namespace {

constexpr size_t kMaxAnswer = 64 << 10;
constexpr size_t kMaxName = 64;
constexpr size_t kMaxRemembered = 256;
constexpr absl::Duration kGoodFor = absl::Minutes(1);

// Where a helper finds others beside the directories of helpers.
constexpr std::string_view kSystemPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// How a helper says, on its output and with an exit status of 1, that it has none.
constexpr std::string_view kNotFound = "credentials not found";

}  // namespace

absl::Status CheckHelperName(std::string_view name) {
  const bool plain = name.size() <= kMaxName && std::all_of(name.begin(), name.end(), [](char c) {
                       return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
                     });
  return plain ? absl::OkStatus()
               : absl::InvalidArgumentError(
                     "a credential helper's name is made of lower-case letters, digits and \"-\"");
}

absl::StatusOr<worker::Credentials> ParseHelperAnswer(std::string_view json) {
  const absl::Status nonsense =
      absl::InvalidArgumentError("its answer is no JSON object with Username and Secret");
  const absl::StatusOr<base::Json> document = base::ParseJson(json);
  if (!document.ok() || !document->is_object()) {
    return nonsense;
  }
  const absl::StatusOr<std::string> user = base::JsonString(*document, "Username");
  const absl::StatusOr<std::string> secret = base::JsonString(*document, "Secret");
  if (!user.ok() || !secret.ok()) {
    return nonsense;
  }
  worker::Credentials credentials;
  if (*user == "<token>") {
    credentials.identity_token = *secret;
  } else {
    credentials.username = *user;
    credentials.password = *secret;
  }
  return credentials;
}

absl::StatusOr<std::optional<worker::Credentials>> CredentialHelpers::Get(
    const base::Context& ctx, const std::string& name, const std::string& server) {
  const std::pair<std::string, std::string> key(name, server);
  {
    base::MutexLock lock(&mutex_);
    if (const auto found = remembered_.find(key);
        found != remembered_.end() && found->second.until > absl::Now()) {
      return found->second.credentials;
    }
  }
  absl::StatusOr<std::optional<worker::Credentials>> answer = Run(ctx, name, server);
  if (!answer.ok()) {
    return base::Annotate(answer.status(), base::StrCat("credential helper docker-credential-",
                                                        name, " for ", server));
  }
  const absl::Time now = absl::Now();
  base::MutexLock lock(&mutex_);
  std::erase_if(remembered_, [&](const auto& entry) { return entry.second.until <= now; });
  if (remembered_.size() >= kMaxRemembered) {
    return answer;
  }
  // Of two who asked at the same time both get the first answer: equal pulls then are one.
  return remembered_.emplace(key, Remembered{*answer, now + kGoodFor}).first->second.credentials;
}

absl::StatusOr<std::optional<worker::Credentials>> CredentialHelpers::Run(
    const base::Context& ctx, const std::string& name, const std::string& server) const {
  RETURN_IF_ERROR(ctx.Check());
  RETURN_IF_ERROR(CheckHelperName(name));
  base::Command command;
  for (const std::string& directory : config_.directories) {
    const std::string path = base::StrCat(directory, "/docker-credential-", name);
    if (access(path.c_str(), X_OK) == 0) {
      command.argv = {path, "get"};
      break;
    }
  }
  const std::string directories = absl::StrJoin(config_.directories, ":");
  if (command.argv.empty()) {
    return absl::FailedPreconditionError(base::StrCat("there is no such program in ", directories));
  }
  command.env = config_.environment;
  command.env.push_back(base::StrCat("PATH=", directories, ":", kSystemPath));
  command.directory = "/";
  const base::Context bounded = ctx.WithTimeout(config_.timeout);
  // One byte more than an answer may have, to notice one that is too long.
  const absl::StatusOr<base::CommandResult> result =
      base::RunCommand(bounded, launcher_->Wrap(std::move(command)), server, kMaxAnswer + 1);
  if (absl::IsDeadlineExceeded(result.status()) && ctx.Check().ok()) {
    return absl::DeadlineExceededError(
        base::StrCat("no answer within ", absl::FormatDuration(config_.timeout)));
  }
  RETURN_IF_ERROR(result.status());
  if (result->exit.code != 0) {
    if (absl::StrContains(result->out, base::ToAbsl(kNotFound))) {
      return std::optional<worker::Credentials>();
    }
    return absl::FailedPreconditionError(base::StrCat("it ended with status ", result->exit.code,
                                                      " (to see why: echo ", server,
                                                      " | docker-credential-", name, " get)"));
  }
  if (result->out.size() > kMaxAnswer) {
    return absl::FailedPreconditionError("its answer is too long");
  }
  const absl::StatusOr<worker::Credentials> credentials = ParseHelperAnswer(result->out);
  if (!credentials.ok()) {
    return absl::FailedPreconditionError(credentials.status().message());
  }
  if (IsAnonymous(*credentials)) {
    return std::optional<worker::Credentials>();
  }
  return std::optional<worker::Credentials>(*credentials);
}

}  // namespace imageservice
