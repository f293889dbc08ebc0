#include "imageservice/worker/registry/endpoint_failures.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace imageservice::worker {
namespace {

absl::Status Combine(std::initializer_list<absl::Status> statuses) {
  EndpointFailures failures;
  int number = 0;
  for (const absl::Status& status : statuses) {
    failures.Add("https://" + std::to_string(++number), status);
  }
  return failures.Combined();
}

const absl::Status kGone = absl::NotFoundError("HTTP 404");
const absl::Status kDown = absl::UnavailableError("no route");
const absl::Status kWho = absl::UnauthenticatedError("HTTP 401");
const absl::Status kDenied = absl::PermissionDeniedError("HTTP 403");
const absl::Status kDamaged = absl::DataLossError("digest");

TEST(EndpointFailuresTest, NamesEveryEndpointAndItsReason) {
  EXPECT_EQ(Combine({kGone, kDown}).message(), "https://1: HTTP 404; https://2: no route");
  EXPECT_TRUE(Combine({}).ok());
}

TEST(EndpointFailuresTest, TheRegistryItselfKnowsWhatExists) {
  EXPECT_EQ(Combine({kDown, kGone}).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Combine({kGone, kDown}).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Combine({kGone, kDamaged}).code(), absl::StatusCode::kDataLoss);
}

TEST(EndpointFailuresTest, ARefusalIsWhatTheUserCanPutRight) {
  EXPECT_EQ(Combine({kWho, kGone}).code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(Combine({kGone, kDenied}).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Combine({kDenied, kDown}).code(), absl::StatusCode::kPermissionDenied);
}

TEST(EndpointFailuresTest, MayPassWhenOneOfThemIsOnlyUnavailable) {
  EndpointFailures failures;
  EXPECT_FALSE(failures.MayPass());
  failures.Add("a", kGone);
  EXPECT_FALSE(failures.MayPass());
  failures.Add("b", kDown);
  failures.Add("a", kGone);
  EXPECT_TRUE(failures.MayPass());
  EXPECT_EQ(failures.AsUnavailable(), absl::UnavailableError("b: no route; a: HTTP 404"));
}

}  // namespace
}  // namespace imageservice::worker
