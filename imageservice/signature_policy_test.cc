#include "imageservice/signature_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/files.h"
#include "base/strings.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kDigest = "sha256:" + std::string(64, 'a');
constexpr char kAccept[] = R"([{"type": "insecureAcceptAnything"}])";
constexpr char kReject[] = R"([{"type": "reject"}])";

SignaturePolicy Policy(std::string_view json) {
  const absl::StatusOr<SignaturePolicy> policy = SignaturePolicy::Parse(json, "policy.json");
  EXPECT_TRUE(policy.ok()) << policy.status();
  return policy.value_or(SignaturePolicy());
}

// A policy that rejects by default and accepts one scope, or the other way round.
SignaturePolicy Only(const std::string& scope, const char* inside = kAccept,
                     const char* outside = kReject) {
  return Policy(base::StrCat(R"({"default": )", outside, R"(, "transports": {"docker": {")", scope,
                             R"(": )", inside, "}}}"));
}

bool Accepts(const SignaturePolicy& policy, const std::string& name) {
  const absl::Status status = policy.Check(Reference::Parse(name).value());
  if (!status.ok()) {
    EXPECT_TRUE(absl::IsPermissionDenied(status));
    EXPECT_THAT(std::string(status.message()), StartsWith("SignatureValidationFailed: "));
  }
  return status.ok();
}

std::string Refusal(std::string_view json) {
  const absl::Status status = SignaturePolicy::Parse(json, "policy.json").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << json;
  EXPECT_THAT(std::string(status.message()), StartsWith("policy.json: "));
  return std::string(status.message());
}

TEST(SignaturePolicyTest, WithoutAPolicyAnythingIsAccepted) {
  EXPECT_TRUE(Accepts(SignaturePolicy(), "quay.io/a"));
  const testing::TempDirectory directory;
  EXPECT_FALSE(SignaturePolicy::Load(directory / "missing.json").value());
}

TEST(SignaturePolicyTest, AScopeIsANameOrWhatContainsIt) {
  for (const std::string scope :
       {"a.b.io/team/app:1", "a.b.io/team/app", "a.b.io/team", "a.b.io", "*.b.io", "*.io", ""}) {
    EXPECT_TRUE(Accepts(Only(scope), "a.b.io/team/app:1")) << scope;
    EXPECT_FALSE(Accepts(Only(scope, kReject, kAccept), "a.b.io/team/app:1")) << scope;
  }
  for (const std::string scope : {"a.b.io/team/app:2", "a.b.io/team/ap", "a.b.io/tea", "b.io",
                                  "*.a.b.io", "io", "a.b.io:5000"}) {
    EXPECT_FALSE(Accepts(Only(scope), "a.b.io/team/app:1")) << scope;
  }
  EXPECT_TRUE(Accepts(Only("a.io:5000/x@" + kDigest), "a.io:5000/x:1@" + kDigest));
  EXPECT_TRUE(Accepts(Only("docker.io/library/busybox"), "busybox"));
  EXPECT_TRUE(Accepts(Only("docker.io/library/busybox:latest"), "busybox"));
}

TEST(SignaturePolicyTest, AnotherSpellingOfTheRegistryIsNoWayRound) {
  for (const std::string scope : {"a.b.io", "a.b.io/team", "*.b.io", "A.b.io:443/team/app"}) {
    const SignaturePolicy policy = Only(scope, kReject, kAccept);
    for (const std::string name : {"a.b.io", "A.b.IO", "a.b.io:443", "A.B.io:443"}) {
      EXPECT_FALSE(Accepts(policy, name + "/team/app:1")) << scope << " " << name;
    }
    EXPECT_TRUE(Accepts(policy, "a.b.io:5000/team/app:1")) << scope;
  }
  EXPECT_FALSE(Accepts(Only("docker.io", kReject, kAccept), "registry-1.docker.io/library/app"));
  // Two spellings of one scope: all their requirements have to hold.
  EXPECT_FALSE(Accepts(Only(R"(a.io": [{"type": "reject"}], "A.io)", kAccept, kAccept), "a.io/x"));
}

TEST(SignaturePolicyTest, TheLongestScopeCounts) {
  const SignaturePolicy policy = Policy(
      base::StrCat(R"({"default": )", kAccept, R"(, "transports": {"docker": {"*.io": )", kReject,
                   R"(, "a.io": )", kAccept, R"(, "a.io/team": )", kReject,
                   R"(, "a.io/team/app": )", kAccept, R"(}, "atomic": {"": )", kReject, "}}}"));
  EXPECT_TRUE(Accepts(policy, "b.com/x"));
  EXPECT_FALSE(Accepts(policy, "b.io/x"));
  EXPECT_TRUE(Accepts(policy, "a.io/x"));
  EXPECT_FALSE(Accepts(policy, "a.io/team/other"));
  EXPECT_TRUE(Accepts(policy, "a.io/team/app"));
}

TEST(SignaturePolicyTest, ARefusalNamesImageFileScopeAndReason) {
  EXPECT_EQ(
      Only("quay.io", kReject, kAccept).Check(Reference::Parse("quay.io/a:1").value()).message(),
      "SignatureValidationFailed: quay.io/a:1 is rejected by policy.json (scope \"quay.io\")");
  const SignaturePolicy signed_by =
      Only("quay.io",
           R"([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k", "signedIdentity":
           {"type": "remapIdentity", "prefix": "a", "signedPrefix": "b"}}])",
           R"([{"type": "insecureAcceptAnything"}, {"type": "sigstoreSigned", "fulcio": {}}])");
  EXPECT_THAT(
      std::string(signed_by.Check(Reference::Parse("quay.io/a").value()).message()),
      AllOf(
          StartsWith("SignatureValidationFailed: quay.io/a:latest is refused: policy.json (scope "),
          HasSubstr("demands a signature (signedBy)")));
  EXPECT_THAT(std::string(signed_by.Check(Reference::Parse("b.io/a").value()).message()),
              AllOf(HasSubstr("(\"default\") demands a signature (sigstoreSigned)")));
}

TEST(SignaturePolicyTest, WhatMakesNoSenseIsRefusedWithItsFile) {
  Refusal("no json");
  Refusal("[]");
  EXPECT_THAT(Refusal("{}"), HasSubstr("\"default\": a list with at least one requirement"));
  EXPECT_THAT(Refusal(R"({"default": []})"), HasSubstr("at least one requirement"));
  EXPECT_THAT(Refusal(R"({"default": [3]})"), HasSubstr("an object with a \"type\""));
  EXPECT_THAT(Refusal(R"({"default": [{"type": "maybe"}]})"), HasSubstr("unknown type \"maybe\""));
  EXPECT_THAT(Refusal(R"({"default": [{"type": "reject", "why": 1}]})"),
              HasSubstr("unknown member \"why\""));
  EXPECT_THAT(Refusal(base::StrCat(R"({"defaults": )", kAccept, "}")),
              HasSubstr("\"defaults\": unknown member"));
  // Which of two counts must not depend on the reader.
  EXPECT_THAT(Refusal(base::StrCat(R"({"default": )", kReject, R"(, "default": )", kAccept, "}")),
              HasSubstr("\"default\" is there twice"));
  const std::string begin = base::StrCat(R"({"default": )", kAccept, R"(, "transports": )");
  EXPECT_THAT(Refusal(begin + "3}"), HasSubstr("\"transports\": an object"));
  EXPECT_THAT(Refusal(begin + R"({"docker": []}})"), HasSubstr("transport \"docker\""));
  EXPECT_THAT(Refusal(begin + R"({"docker": {"a.io": [{}]}}})"),
              HasSubstr("transport \"docker\", scope \"a.io\": unknown type \"\""));
  for (const std::string requirement :
       {R"({"type": "signedBy", "keyType": "GPGKeys"})", R"({"type": "signedBy", "keyPath": "/k"})",
        R"({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k", "keyData": "x"})",
        R"({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k", "fulcio": {}})",
        R"({"type": "sigstoreSigned"})", R"({"type": "sigstoreSigned", "pki": {}, "keyData": "x"})",
        R"({"type": "sigstoreSigned", "keyPath": "/k", "signedIdentity": {"type": "any"}})",
        R"({"type": "sigstoreSigned", "keyPath": "/k", "signedIdentity": 3})",
        R"({"type": "sigstoreSigned", "keyPath": "/k",
            "signedIdentity": {"type": "matchExact", "prefix": "x"}})"}) {
    Refusal(R"({"default": [)" + requirement + "]}");
  }
}

}  // namespace
}  // namespace imageservice
