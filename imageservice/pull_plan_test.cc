#include "imageservice/pull_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/files.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PullPlanTest : public ::testing::Test {
 protected:
  absl::StatusOr<PullPlan> Plan(const std::string& image, const cri::AuthConfig& auth = {}) {
    return MakePullPlan(image, auth,
                        {.registries = &registries_,
                         .auth_file = &auth_file_,
                         .insecure_registries = &insecure_,
                         .certificate_directories = &certificates_});
  }
  static std::vector<std::string> Urls(const PullPlan& plan) {
    std::vector<std::string> urls;
    for (const PullSource& source : plan.sources) {
      urls.push_back(source.endpoint.base_url + " " + source.endpoint.repository);
    }
    return urls;
  }

  RegistriesConfig registries_;
  AuthFile auth_file_;
  std::vector<std::string> insecure_;
  testing::TempDirectory directory_;
  std::vector<std::string> certificates_ = {directory_.path()};
};

TEST_F(PullPlanTest, DockerHubIsAskedAtItsRealHost) {
  EXPECT_THAT(Urls(*Plan("busybox")),
              ElementsAre("https://registry-1.docker.io/v2 library/busybox"));
}

TEST_F(PullPlanTest, InsecureServersAreAskedByHttpsFirst) {
  insecure_ = {"r.io:5000"};
  EXPECT_THAT(Urls(*Plan("r.io:5000/a")),
              ElementsAre("https://r.io:5000/v2 a", "http://r.io:5000/v2 a"));
}

TEST_F(PullPlanTest, ImagesAreCalledAsTheUserCallsThemWhereverTheyComeFrom) {
  ASSERT_TRUE(registries_
                  .Merge("unqualified-search-registries = [\"q.io\", \"docker.io\"]\n"
                         "[[registry]]\nlocation = \"q.io\"\n"
                         "[[registry.mirror]]\nlocation = \"m.io/cache\"\n",
                         "test.conf")
                  .ok());
  const PullPlan plan = Plan("app:1").value();
  EXPECT_THAT(Urls(plan), ElementsAre("https://m.io/v2 cache/app", "https://q.io/v2 app",
                                      "https://registry-1.docker.io/v2 library/app"));
  EXPECT_EQ(plan.sources[0].name.str(), "q.io/app:1");
  EXPECT_EQ(plan.sources[2].name.str(), "docker.io/library/app:1");
}

TEST_F(PullPlanTest, TheRequestsCredentialsComeBeforeTheFilesAndStayAwayFromMirrors) {
  ASSERT_TRUE(registries_
                  .Merge("[[registry]]\nlocation = \"q.io\"\n"
                         "[[registry.mirror]]\nlocation = \"m.io\"\n",
                         "test.conf")
                  .ok());
  auth_file_ =
      AuthFile::Parse(R"({"auths":{"q.io":{"auth":"ZmlsZTpw"},"m.io":{"auth":"bWlycm9yOnA="}}})")
          .value();
  cri::AuthConfig auth;
  auth.set_username("request");
  auth.set_password("p");
  const PullPlan plan = Plan("q.io/a", auth).value();
  EXPECT_EQ(plan.sources[0].endpoint.credentials.username, "mirror");
  EXPECT_EQ(plan.sources[1].endpoint.credentials.username, "request");
  EXPECT_EQ(Plan("q.io/a")->sources[1].endpoint.credentials.username, "file");
}

TEST_F(PullPlanTest, CertificatesAreThoseOfTheHost) {
  const auto write = [&](const std::string& name, const std::string& text) {
    ASSERT_TRUE(base::ReplaceFile(directory_ / name, text, 0644, base::Durability::kVolatile).ok());
  };
  ASSERT_TRUE(base::MakeDirectories(directory_ / "r.io:5000").ok());
  write("r.io:5000/ca.crt", "CA");
  write("r.io:5000/us.cert", "CERT");
  write("r.io:5000/us.key", "KEY");
  const worker::Endpoint endpoint = Plan("r.io:5000/a")->sources[0].endpoint;
  EXPECT_EQ(endpoint.ca_pem, "CA\n");
  EXPECT_EQ(endpoint.client_certificate_pem, "CERT");
  EXPECT_EQ(endpoint.client_key_pem, "KEY");
  EXPECT_EQ(Plan("r.io/a")->sources[0].endpoint.ca_pem, "");
  ASSERT_TRUE(base::RemoveFile(directory_ / "r.io:5000/us.key").ok());
  EXPECT_THAT(std::string(Plan("r.io:5000/a").status().message()), HasSubstr("has no key"));
}

TEST_F(PullPlanTest, BadRequestsAreRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(Plan("Not A Name").status()));
  cri::AuthConfig auth;
  auth.set_auth("%%%");
  EXPECT_TRUE(absl::IsInvalidArgument(Plan("q.io/a", auth).status()));
}

TEST(HostPlatformTest, NamesAreGos) {
  const worker::Platform platform = HostPlatform();
  EXPECT_EQ(platform.os, "linux");
#if defined(__x86_64__)
  EXPECT_EQ(platform.architecture, "amd64");
  EXPECT_EQ(platform.variant, "");
#elif defined(__aarch64__)
  EXPECT_EQ(platform.architecture, "arm64");
#endif
}

}  // namespace
}  // namespace imageservice
