#include "daemon/in_flight.h"

#include <utility>

#include "absl/time/clock.h"
#include "base/json.h"
#include "base/strings.h"

namespace crispd {
namespace {

const char* Name(Stage stage) {
  switch (stage) {
    case Stage::kQueued:
      return "queued";
    case Stage::kRunning:
      return "running";
    case Stage::kWaiting:
      return "waiting";
  }
  return "unknown";
}

std::string Age(const Operation& operation, absl::Time now) {
  return DurationText(now - operation.since);
}

}  // namespace

std::string DurationText(absl::Duration duration) {
  const absl::Duration shown = absl::Trunc(duration, absl::Milliseconds(1));
  return shown == absl::ZeroDuration() ? "0ms" : absl::FormatDuration(shown);
}

uint64_t InFlight::Add(std::string method, std::string subject, std::string lane) {
  const absl::Time now = absl::Now();
  base::MutexLock lock(&mutex_);
  const uint64_t request = ++last_;
  operations_[request] = {.request = request,
                          .method = std::move(method),
                          .subject = std::move(subject),
                          .lane = std::move(lane),
                          .since = now};
  return request;
}

void InFlight::SetStage(uint64_t request, Stage stage) {
  base::MutexLock lock(&mutex_);
  const auto operation = operations_.find(request);
  if (operation != operations_.end()) {
    operation->second.stage = stage;
  }
}

void InFlight::Remove(uint64_t request) {
  base::MutexLock lock(&mutex_);
  operations_.erase(request);
}

std::vector<Operation> InFlight::List() const {
  std::vector<Operation> operations;
  base::MutexLock lock(&mutex_);
  for (const auto& [request, operation] : operations_) {
    operations.push_back(operation);
  }
  return operations;
}

std::string Describe(const Operation& operation, absl::Time now) {
  return base::StrCat(
      "request=", operation.request, " ", operation.method, operation.subject.empty() ? "" : " ",
      operation.subject, " ", Name(operation.stage), " for ", Age(operation, now),
      operation.lane.empty() ? "" : base::StrCat(" in the ", operation.lane, " lane"));
}

std::string OperationsJson(const std::vector<Operation>& operations, absl::Time now) {
  base::OrderedJson list = base::OrderedJson::array();
  for (const Operation& operation : operations) {
    list.push_back({{"request", operation.request},
                    {"method", operation.method},
                    {"subject", operation.subject},
                    {"lane", operation.lane},
                    {"stage", Name(operation.stage)},
                    {"age", Age(operation, now)}});
  }
  return base::DumpJson(base::OrderedJson{{"operations", std::move(list)}});
}

}  // namespace crispd
