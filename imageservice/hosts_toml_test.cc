#include "imageservice/hosts_toml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/files.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

RegistryHosts Hosts(std::string_view text) {
  absl::StatusOr<RegistryHosts> hosts = ParseHostsToml(text, "hosts.toml");
  EXPECT_TRUE(hosts.ok()) << hosts.status();
  return hosts.ok() ? *std::move(hosts) : RegistryHosts();
}

std::string Refusal(std::string_view text) {
  const absl::Status status = ParseHostsToml(text, "hosts.toml").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
  return std::string(status.message());
}

std::string UrlOf(const std::string& host, const std::string& more = "") {
  return Hosts("[host.\"" + host + "\"]\n" + more).mirrors.at(0).url;
}

TEST(HostsTomlTest, MirrorsComeInTheFilesOrderBeforeTheServer) {
  const RegistryHosts hosts = Hosts(R"(
    server = "https://upstream.io"
    [host."https://z.io:5000"]
    [host."http://a.io/cache"]
    [host."b.io"]
  )");
  ASSERT_EQ(hosts.mirrors.size(), 3u);
  EXPECT_EQ(hosts.mirrors[0].url, "https://z.io:5000/v2");
  EXPECT_EQ(hosts.mirrors[0].authority, "z.io:5000");
  EXPECT_EQ(hosts.mirrors[1].url, "http://a.io/cache/v2");
  EXPECT_TRUE(hosts.mirrors[1].plain_http());
  EXPECT_EQ(hosts.mirrors[2].url, "https://b.io/v2");
  EXPECT_EQ(hosts.server.url, "https://upstream.io/v2");
  EXPECT_THAT(hosts.warnings, IsEmpty());
  EXPECT_EQ(Hosts("").server.url, "");
}

TEST(HostsTomlTest, ThePathIsTheApisRootUnlessOverridden) {
  EXPECT_EQ(UrlOf("https://m.io/"), "https://m.io/v2");
  EXPECT_EQ(UrlOf("https://m.io/v2"), "https://m.io/v2");
  EXPECT_EQ(UrlOf("https://m.io/v2/"), "https://m.io/v2");
  EXPECT_EQ(UrlOf("https://m.io//a/./b/"), "https://m.io/a/b/v2");
  EXPECT_EQ(UrlOf("https://m.io/v2/proxy", "override_path = true"), "https://m.io/v2/proxy");
  EXPECT_EQ(UrlOf("https://m.io", "override_path = true"), "https://m.io");
  EXPECT_EQ(UrlOf("https://[::1]:5000"), "https://[::1]:5000/v2");
}

TEST(HostsTomlTest, CapabilitiesSayWhatAHostIsAskedFor) {
  const RegistryHosts hosts = Hosts(R"(
    capabilities = ["resolve"]
    [host."https://a.io"]
    capabilities = ["pull"]
    [host."https://b.io"]
    capabilities = ["push", "referrers"]
    [host."https://c.io"]
    capabilities = []
  )");
  const auto abilities = [](const RegistryHost& host) {
    return std::pair(host.can_pull, host.can_resolve);
  };
  EXPECT_EQ(abilities(hosts.server), std::pair(false, true));
  EXPECT_EQ(abilities(hosts.mirrors[0]), std::pair(true, false));
  EXPECT_EQ(abilities(hosts.mirrors[1]), std::pair(false, false));
  EXPECT_EQ(abilities(hosts.mirrors[2]), std::pair(true, true));
  EXPECT_THAT(Refusal("[host.\"https://a.io\"]\ncapabilities = [\"fly\"]"),
              HasSubstr("hosts.toml:2: capability \"fly\" is unknown"));
}

TEST(HostsTomlTest, CertificatesHaveThreeForms) {
  const auto client = [](const std::string& value) {
    return Hosts("client = " + value).server.client_files;
  };
  EXPECT_THAT(client("\"/both.pem\""), ElementsAre(Pair("/both.pem", "")));
  EXPECT_THAT(client("[\"a.pem\"]"), ElementsAre(Pair("a.pem", "")));
  EXPECT_THAT(client("[[\"a.cert\", \"a.key\"]]"), ElementsAre(Pair("a.cert", "a.key")));
  EXPECT_THAT(Hosts("client = [\"a\", \"b\"]").warnings,
              ElementsAre(HasSubstr("the first is used")));
  EXPECT_THAT(Hosts("ca = \"x.crt\"").server.authority_files, ElementsAre("x.crt"));
  EXPECT_THAT(Hosts("ca = [\"x.crt\", \"y.crt\"]").server.authority_files,
              ElementsAre("x.crt", "y.crt"));
  for (const std::string bad : {"3", "[3]", "[[]]", "[[\"a\", \"b\", \"c\"]]", "[[1, 2]]", "{}"}) {
    EXPECT_THAT(Refusal("client = " + bad), HasSubstr("hosts.toml:1: client")) << bad;
  }
}

TEST(HostsTomlTest, HeadersTimesAndTheRest) {
  const RegistryHosts hosts = Hosts(R"(
    [host."https://a.io"]
    skip_verify = true
    pass_credentials = true
    dial_timeout = "1500ms"
    [host."https://a.io".header]
    x-one = "1"
    X-Many = ["a", "b"]
  )");
  const RegistryHost& host = hosts.mirrors.at(0);
  EXPECT_TRUE(host.skip_verify);
  EXPECT_TRUE(host.pass_credentials);
  EXPECT_EQ(host.connect_timeout_seconds, 2);
  EXPECT_THAT(host.headers, ElementsAre("x-one: 1", "X-Many: a", "X-Many: b"));
  EXPECT_EQ(hosts.server.connect_timeout_seconds, 30);
  EXPECT_THAT(hosts.server.headers, IsEmpty());
}

TEST(HostsTomlTest, UnknownKeysAreWarnings) {
  EXPECT_THAT(
      Hosts("mode = 1\n[host.\"https://a.io\"]\nrewrite = 1\n").warnings,
      ElementsAre("hosts.toml:3: unknown key \"rewrite\"", "hosts.toml:1: unknown key \"mode\""));
}

TEST(HostsTomlTest, WhatMakesNoSenseIsRefusedWithItsLineAndWithoutSecrets) {
  EXPECT_THAT(Refusal("server = [\n"), StartsWith("hosts.toml:"));
  EXPECT_THAT(Refusal("server = 3"), HasSubstr("hosts.toml:1: server is an integer"));
  for (const std::string url : {"ftp://a.io", "unix:///run/x", "https://", "https://a.io?x",
                                "https://a.io/../b", "https://a.io/%20 b", "https://a_b.io"}) {
    EXPECT_THAT(Refusal("server = \"" + url + "\""), HasSubstr("is no URL")) << url;
  }
  EXPECT_THAT(Refusal("host = 3"), HasSubstr("want a table"));
  EXPECT_THAT(Refusal("[host]\n\"https://a.io\" = 3"), HasSubstr("hosts.toml:2: "));
  for (const std::string time : {"fast", "0s", "-1s", "999h"}) {
    EXPECT_THAT(Refusal("dial_timeout = \"" + time + "\""), HasSubstr("dial_timeout is no time"));
  }
  for (const std::string secret :
       {"server = \"https://user:hunter2@a.io\"", "[host.\"https://user:hunter2@a.io\"]",
        "[header]\nAuthorization = \"hunter2\\n\"", "[header]\n\"a b\" = \"hunter2\"",
        "[header]\nAuthorization = [\"hunter2\", 3]"}) {
    EXPECT_THAT(Refusal(secret), Not(HasSubstr("hunter2"))) << secret;
  }
}

class RegistryHostsTest : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text) {
    const std::string path = directory_ / name;
    ASSERT_TRUE(base::MakeDirectories(path.substr(0, path.rfind('/'))).ok());
    ASSERT_TRUE(base::ReplaceFile(path, text, 0644, base::Durability::kVolatile).ok());
  }
  // The URL of the first mirror, or what went wrong.
  std::string First(const std::string& registry) {
    const auto hosts = LoadRegistryHosts({directory_ / "one", directory_ / "two"}, registry);
    if (!hosts.ok()) {
      return std::string(hosts.status().message());
    }
    return !*hosts ? "none" : (*hosts)->mirrors.empty() ? "empty" : (*hosts)->mirrors[0].url;
  }

  testing::TempDirectory directory_;
};

TEST_F(RegistryHostsTest, AFolderIsNamedByHostAndPort) {
  EXPECT_EQ(First("reg.io"), "none");
  Write("two/_default/hosts.toml", "[host.\"https://all.io\"]");
  Write("two/reg.io/hosts.toml", "[host.\"https://plain.io\"]");
  Write("two/reg.io:5000/hosts.toml", "[host.\"https://colon.io\"]");
  Write("two/reg.io_5001_/hosts.toml", "[host.\"https://under.io\"]");
  Write("two/reg.io:5001/hosts.toml", "[host.\"https://colon.io\"]");
  Write("two/[::1]/hosts.toml", "[host.\"https://six.io\"]");
  Write("two/[::1]_80_/hosts.toml", "[host.\"https://six80.io\"]");
  EXPECT_EQ(First("reg.io"), "https://plain.io/v2");
  EXPECT_EQ(First("reg.io:5000"), "https://colon.io/v2");
  EXPECT_EQ(First("reg.io:5001"), "https://under.io/v2");
  EXPECT_EQ(First("[::1]"), "https://six.io/v2");
  EXPECT_EQ(First("[::1]:80"), "https://six80.io/v2");
  EXPECT_EQ(First("other.io"), "https://all.io/v2");
  Write("one/other.io/hosts.toml", "");
  EXPECT_EQ(First("other.io"), "empty");
}

TEST_F(RegistryHostsTest, CertificatesAreRelativeToTheFile) {
  Write("one/reg.io/ca.crt", "CA");
  Write("one/reg.io/sub/both.pem", "BOTH");
  Write("elsewhere.crt", "ELSE");
  Write("one/reg.io/hosts.toml", "ca = \"ca.crt\"\n[host.\"https://m.io\"]\nca = [\"" +
                                     (directory_ / "elsewhere.crt") +
                                     "\"]\nclient = \"sub/both.pem\"");
  const RegistryHosts hosts = *LoadRegistryHosts({directory_ / "one"}, "reg.io").value();
  EXPECT_EQ(hosts.server.certificates.authorities, "CA\n");
  EXPECT_EQ(hosts.mirrors[0].certificates.authorities, "ELSE\n");
  EXPECT_EQ(hosts.mirrors[0].certificates.client_certificate, "BOTH");
  EXPECT_EQ(hosts.mirrors[0].certificates.client_key, "BOTH");
  ASSERT_TRUE(base::RemoveFile(directory_ / "elsewhere.crt").ok());
  const absl::Status missing = LoadRegistryHosts({directory_ / "one"}, "reg.io").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(missing)) << missing;
  EXPECT_THAT(std::string(missing.message()), HasSubstr("one/reg.io/hosts.toml: "));
}

TEST_F(RegistryHostsTest, WithoutAHostsTomlTheFolderIsOneOfCertificates) {
  Write("one/reg.io/ca.crt", "CA");
  Write("one/reg.io/us.cert", "CERT");
  Write("one/reg.io/us.key", "KEY");
  const RegistryHosts hosts = *LoadRegistryHosts({directory_ / "one"}, "reg.io").value();
  EXPECT_THAT(hosts.mirrors, IsEmpty());
  EXPECT_EQ(hosts.server.certificates.authorities, "CA\n");
  EXPECT_EQ(hosts.server.certificates.client_key, "KEY");
}

}  // namespace
}  // namespace imageservice
