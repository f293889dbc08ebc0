#include "runtimeservice/spec/pod_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/files.h"

namespace runtimeservice {
namespace {

using ::testing::HasSubstr;

void UseHostNetwork(cri::PodSandboxConfig* pod) {
  pod->mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(
      cri::NODE);
}

class PodFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crisp-pod-files-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  cri::PodSandboxConfig pod_;
  std::string directory_;
};

TEST_F(PodFilesTest, LinesAreInTheResolversOrder) {
  cri::DNSConfig dns;
  dns.add_options("ndots:8");
  dns.add_searches("google.com");
  dns.add_searches("local");
  dns.add_servers("10.10.10.10");
  dns.add_servers("::1");
  EXPECT_EQ(*ResolvConf(dns),
            "nameserver 10.10.10.10\nnameserver ::1\nsearch google.com local\noptions ndots:8\n");
}

TEST_F(PodFilesTest, EmptyConfigIsAnEmptyFile) {
  pod_.mutable_dns_config();
  const absl::StatusOr<PodFiles> files = WritePodFiles(directory_, pod_, "name", {});
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(*base::ReadFile(files->resolv_conf), "");
}

TEST_F(PodFilesTest, EntriesThatWouldMakeOtherLinesAreRefused) {
  for (const char* bad : {"1.1.1.1\nnameserver 6.6.6.6", "a b", "", "a\tb"}) {
    cri::DNSConfig dns;
    dns.add_servers(bad);
    EXPECT_TRUE(absl::IsInvalidArgument(ResolvConf(dns).status())) << bad;
    dns.clear_servers();
    dns.add_searches("ok");
    dns.add_searches(bad);
    const absl::Status status = ResolvConf(dns).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("dns_config.searches[1]"));
  }
}

TEST_F(PodFilesTest, UnsetConfigIsTheHostsFile) {
  const absl::StatusOr<PodFiles> files = WritePodFiles(directory_, pod_, "name", {});
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(*base::ReadFile(files->resolv_conf), base::ReadFile("/etc/resolv.conf").value_or(""));
}

TEST_F(PodFilesTest, HostsNameThePod) {
  const absl::StatusOr<PodFiles> files =
      WritePodFiles(directory_, pod_, "name", {"10.0.0.1", "fd00::1"});
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(*base::ReadFile(files->hosts),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            "10.0.0.1\tname\nfd00::1\tname\n");
  EXPECT_EQ(*base::ReadFile(files->hostname), "name\n");
}

TEST_F(PodFilesTest, HostNetworkHasTheHostsNames) {
  UseHostNetwork(&pod_);
  const absl::StatusOr<PodFiles> files = WritePodFiles(directory_, pod_, "node", {});
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(*base::ReadFile(files->hosts), base::ReadFile("/etc/hosts").value_or(""));
}

TEST_F(PodFilesTest, RepeatReplacesWhatIsThere) {
  ASSERT_TRUE(WritePodFiles(directory_, pod_, "first", {}).ok());
  const absl::StatusOr<PodFiles> files = WritePodFiles(directory_, pod_, "second", {});
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(*base::ReadFile(files->hostname), "second\n");
}

TEST_F(PodFilesTest, HostnameIsTheRequestedTheNodesOrTheIds) {
  const base::PodId id = base::PodId::Random();
  EXPECT_EQ(*PodHostname(pod_, "node", id), id.str().substr(0, 12));
  pod_.set_hostname("web-0.example");
  EXPECT_EQ(*PodHostname(pod_, "node", id), "web-0.example");
  UseHostNetwork(&pod_);
  EXPECT_EQ(*PodHostname(pod_, "node", id), "node");
}

TEST_F(PodFilesTest, BadHostnamesAreRefused) {
  for (const std::string& name : {std::string(65, 'a'), std::string("a b"), std::string("a\nb")}) {
    pod_.set_hostname(name);
    EXPECT_TRUE(absl::IsInvalidArgument(PodHostname(pod_, "node", base::PodId::Random()).status()));
  }
}

}  // namespace
}  // namespace runtimeservice
