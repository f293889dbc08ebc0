#include "imageservice/credential_helpers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/strings.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class CredentialHelpersTest : public ::testing::Test {
 protected:
  CredentialHelpersTest() : launcher_("", "") { Start(absl::Seconds(60)); }

  void Start(absl::Duration timeout) {
    helpers_ = std::make_unique<CredentialHelpers>(
        CredentialHelpers::Config{.directories = {directory_ / "first", directory_.path()},
                                  .environment = {"HELPER_HOME=" + directory_.path()},
                                  .timeout = timeout},
        &launcher_);
  }
  // A helper that notes each call and its question, and then does what `script` says.
  void Install(const std::string& name, const std::string& script) {
    const std::string text =
        "#!/bin/sh\nset -u\nread -r server\n"
        "echo \"$1 $server\" >> \"$HELPER_HOME/calls\"\n" +
        script;
    ASSERT_TRUE(base::ReplaceFile(directory_ / ("docker-credential-" + name), text, 0755,
                                  base::Durability::kVolatile)
                    .ok());
  }
  std::string Calls() const { return base::ReadFile(directory_ / "calls").value_or(""); }
  std::string Failure(const std::string& name) {
    const absl::Status status = helpers_->Get(base::Context(), name, "q.io").status();
    EXPECT_FALSE(status.ok());
    return std::string(status.message());
  }

  testing::TempDirectory directory_;
  base::Launcher launcher_;
  std::unique_ptr<CredentialHelpers> helpers_;
};

TEST_F(CredentialHelpersTest, AnAnswerIsUserAndSecret) {
  Install("plain", R"(echo '{"ServerURL": "q.io", "Username": "u", "Secret": "s"}')");
  const auto found = helpers_->Get(base::Context(), "plain", "q.io");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)->username, "u");
  EXPECT_EQ((*found)->password, "s");
  EXPECT_EQ(Calls(), "get q.io\n");
}

TEST_F(CredentialHelpersTest, TheUserTokenMeansAnIdentityToken) {
  Install("token", R"(echo '{"Username": "<token>", "Secret": "refresh"}')");
  const auto found = helpers_->Get(base::Context(), "token", "q.io");
  EXPECT_EQ((*found)->identity_token, "refresh");
  EXPECT_EQ((*found)->username, "");
}

TEST_F(CredentialHelpersTest, NotFoundIsNobodysError) {
  Install("none", "echo 'credentials not found in native keychain'; exit 1");
  EXPECT_FALSE(helpers_->Get(base::Context(), "none", "q.io").value());
  Install("empty", "echo '{}'");
  EXPECT_FALSE(helpers_->Get(base::Context(), "empty", "q.io").value());
}

TEST_F(CredentialHelpersTest, AnAnswerIsRemembered) {
  // Each answer is another.
  Install("plain", R"(echo "{\"Username\": \"u\", \"Secret\": \"$$\"}")");
  const std::string first = (*helpers_->Get(base::Context(), "plain", "q.io"))->password;
  EXPECT_EQ((*helpers_->Get(base::Context(), "plain", "q.io"))->password, first);
  EXPECT_NE((*helpers_->Get(base::Context(), "plain", "r.io"))->password, first);
  EXPECT_EQ(Calls(), "get q.io\nget r.io\n");
}

TEST_F(CredentialHelpersTest, WhoAsksAtTheSameTimeGetsTheSame) {
  Install("plain", R"(echo "{\"Username\": \"u\", \"Secret\": \"$$\"}")");
  std::vector<std::string> secrets(8);
  std::vector<std::thread> threads;
  for (std::string& secret : secrets) {
    threads.emplace_back(
        [&] { secret = (*helpers_->Get(base::Context(), "plain", "q.io"))->password; });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_THAT(secrets, ::testing::Each(secrets[0]));
}

TEST_F(CredentialHelpersTest, FailuresNameHelperAndRegistryAndNoSecret) {
  Install("fails", "echo hunter2; echo hunter2 >&2; exit 3");
  Install("babbles", "echo 'user hunter2'");
  Install("odd", R"(echo '{"Username": ["hunter2"], "Secret": "hunter2"}')");
  Install("long", "echo hunter2; head -c 70000 /dev/zero");
  for (const std::string name : {"fails", "babbles", "odd", "long", "missing"}) {
    EXPECT_THAT(Failure(name), AllOf(HasSubstr("docker-credential-" + name), HasSubstr("q.io"),
                                     Not(HasSubstr("hunter2"))));
  }
  EXPECT_THAT(Failure("fails"), HasSubstr("ended with status 3"));
  EXPECT_THAT(Failure("long"), HasSubstr("too long"));
  EXPECT_THAT(Failure("missing"), HasSubstr("no such program in " + (directory_ / "first:")));
}

TEST_F(CredentialHelpersTest, AHelperThatHangsIsEnded) {
  Start(absl::Milliseconds(300));
  Install("hangs", "exec tail -f /dev/null");
  const absl::Status late = helpers_->Get(base::Context(), "hangs", "q.io").status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(late)) << late;
  EXPECT_THAT(std::string(late.message()), HasSubstr("no answer within 300ms"));
}

TEST_F(CredentialHelpersTest, TheCallersEndEndsIt) {
  Install("hangs", "exec tail -f /dev/null");
  auto cancellation = std::make_shared<base::Cancellation>();
  const base::Context ctx(base::SteadyTime::InfiniteFuture(), cancellation);
  absl::Status status;
  std::thread caller([&] { status = helpers_->Get(ctx, "hangs", "q.io").status(); });
  while (Calls().empty()) {
    std::this_thread::yield();
  }
  cancellation->Cancel();
  caller.join();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

TEST_F(CredentialHelpersTest, ANameCannotLeadOutOfTheDirectories) {
  for (const std::string& name :
       std::vector<std::string>{"../x", "A", "a b", "a/b", "a.b", std::string(65, 'a')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckHelperName(name))) << name;
  }
  EXPECT_TRUE(CheckHelperName("ecr-login").ok());
  EXPECT_THAT(Failure("../docker-credential-x"), HasSubstr("lower-case letters"));
}

}  // namespace
}  // namespace imageservice
