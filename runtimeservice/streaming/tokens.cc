#include "runtimeservice/streaming/tokens.h"

#include <sys/random.h>

#include <cerrno>
#include <utility>

#include "base/sha.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace streaming {
namespace {

absl::StatusOr<std::string> NewToken() {
  constexpr char kDigits[] = "0123456789abcdef";
  unsigned char bytes[16];
  // At once and whole: the pool was ready long before any daemon started.
  if (getrandom(bytes, sizeof(bytes), 0) != static_cast<ssize_t>(sizeof(bytes))) {
    return base::ErrnoStatus(errno, "getrandom");
  }
  std::string token;
  for (const unsigned char byte : bytes) {
    token += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return token;
}

std::string KindOf(const stream::Session& session) {
  switch (session.kind_case()) {
    case stream::Session::kExec:
      return "exec";
    case stream::Session::kAttach:
      return "attach";
    case stream::Session::kPortForward:
      return "portforward";
    case stream::Session::KIND_NOT_SET:
      break;
  }
  return "";
}

}  // namespace

absl::StatusOr<std::string> Tokens::Add(stream::Session session) {
  DropExpired();
  std::string kind = KindOf(session);
  if (kind.empty()) {
    return absl::InvalidArgumentError("a session of no kind that is known");
  }
  if (waiting_.size() >= max_waiting_) {
    return absl::ResourceExhaustedError(
        base::StrCat(waiting_.size(), " URLs wait to be used: stream_max_urls allows no more"));
  }
  const size_t bytes = session.ByteSizeLong();
  if (bytes_ + bytes > kMaxWaitingBytes) {
    return absl::ResourceExhaustedError(base::StrCat("requests whose URLs wait to be used have ",
                                                     bytes_ + bytes, " bytes, more than ",
                                                     kMaxWaitingBytes));
  }
  ASSIGN_OR_RETURN(const std::string token, NewToken());
  const std::string key = base::Sha256Hex(token);
  const base::SteadyTime end = base::SteadyTime::Now() + lifetime_;
  std::string path = base::StrCat("/", kind, "/", token);
  waiting_[key] = {
      .session = std::move(session), .kind = std::move(kind), .bytes = bytes, .end = end};
  ends_.emplace_back(end, key);
  bytes_ += bytes;
  return path;
}

absl::StatusOr<stream::Session> Tokens::Redeem(std::string_view kind, std::string_view token) {
  DropExpired();
  const auto found = waiting_.find(base::Sha256Hex(token));
  if (found == waiting_.end() || found->second.kind != kind) {
    return absl::NotFoundError("the URL is unknown, was used or has expired");
  }
  stream::Session session = std::move(found->second.session);
  bytes_ -= found->second.bytes;
  waiting_.erase(found);
  return session;
}

size_t Tokens::size() {
  DropExpired();
  return waiting_.size();
}

base::SteadyTime Tokens::NextEnd() {
  DropExpired();
  return ends_.empty() ? base::SteadyTime::InfiniteFuture() : ends_.front().first;
}

void Tokens::Clear() {
  waiting_.clear();
  ends_.clear();
  bytes_ = 0;
}

void Tokens::DropExpired() {
  const base::SteadyTime now = base::SteadyTime::Now();
  // A used one in front stays until its time, unless all are used.
  while (!ends_.empty() &&
         (ends_.front().first <= now || !waiting_.contains(ends_.front().second))) {
    const auto found = waiting_.find(ends_.front().second);
    if (found != waiting_.end()) {
      bytes_ -= found->second.bytes;
      waiting_.erase(found);
    }
    ends_.pop_front();
  }
}

}  // namespace streaming
