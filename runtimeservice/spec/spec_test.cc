#include "runtimeservice/spec/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtimeservice/spec/spec_test_input.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;
using ::testing::HasSubstr;

class SpecTest : public ::testing::Test, public TestInput {
 protected:
  void ExpectRefused(absl::StatusCode code, const std::string& field) const {
    const absl::Status status = Build().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  }
  std::vector<std::string> NamespaceTypes() const {
    std::vector<std::string> types;
    for (const OrderedJson& entry : At(Spec(), "/linux/namespaces")) {
      types.push_back(entry["type"].get<std::string>() +
                      (entry.contains("path") ? "=" + entry["path"].get<std::string>() : ""));
    }
    return types;
  }
};

TEST_F(SpecTest, TopIsAsOldRuntimesTakeIt) {
  const OrderedJson spec = Spec();
  EXPECT_EQ(At(spec, "/ociVersion"), "1.0.2");
  EXPECT_EQ(At(spec, "/root"), OrderedJson::parse(R"({"path": "/rootfs", "readonly": false})"));
  EXPECT_EQ(At(spec, "/hostname"), "test");
  EXPECT_EQ(At(spec, "/linux/cgroupsPath"), "/test/crisp-test");
  EXPECT_EQ(At(spec, "/linux/resources/pids"), nullptr);
  EXPECT_EQ(At(spec, "/annotations"), nullptr);
}

TEST_F(SpecTest, HostnameBelongsToNewNamespacesOnly) {
  namespaces.uts = "/run/ns/uts";
  EXPECT_EQ(At(Spec(), "/hostname"), nullptr);
  namespaces.uts = "";
  mutable_pod_namespaces()->set_network(cri::NODE);
  EXPECT_EQ(At(Spec(), "/hostname"), nullptr);
}

TEST_F(SpecTest, PrivilegedContainerNeedsAPrivilegedPod) {
  mutable_security()->set_privileged(true);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "linux.security_context.privileged");
}

TEST_F(SpecTest, PrivilegedIsNotConfined) {
  MakePrivileged();
  mutable_security()->add_masked_paths("/proc/kcore");
  mutable_security()->add_readonly_paths("/proc/sys");
  seccomp.profile = {{"defaultAction", "SCMP_ACT_ERRNO"}};
  seccomp.bpf_base64 = "AAAA";
  handler.compiled_seccomp = true;
  const OrderedJson spec = Spec();
  ASSERT_TRUE(spec.is_object()) << spec;
  EXPECT_EQ(At(spec, "/linux/maskedPaths"), nullptr);
  EXPECT_EQ(At(spec, "/linux/readonlyPaths"), nullptr);
  EXPECT_EQ(At(spec, "/linux/seccomp"), nullptr);
  EXPECT_EQ(At(spec, "/annotations"), nullptr);
  EXPECT_EQ(At(spec, "/linux/resources/devices"),
            OrderedJson::parse(R"([{"allow": true, "access": "rwm"}])"));
  EXPECT_EQ(At(spec, "/process/capabilities/bounding").size(), host.capabilities.size());
}

TEST_F(SpecTest, FilterGoesAsJsonAndCompiledWhereItIsTaken) {
  seccomp.profile = {{"defaultAction", "SCMP_ACT_ERRNO"}};
  seccomp.bpf_base64 = "AAAA";
  EXPECT_EQ(At(Spec(), "/linux/seccomp/defaultAction"), "SCMP_ACT_ERRNO");
  EXPECT_EQ(At(Spec(), "/annotations"), nullptr);
  handler.compiled_seccomp = true;
  EXPECT_EQ(At(Spec(), "/linux/seccomp/defaultAction"), "SCMP_ACT_ERRNO");
  EXPECT_EQ(At(Spec(), "/annotations"),
            OrderedJson::parse(R"({"run.oci.seccomp_bpf_data": "AAAA"})"));
}

TEST_F(SpecTest, HostileAnnotationsNeverArrive) {
  handler.allowed_annotations = {"",        "r", "o", "i", "run.oci.", "org.", "io.kubernetes.",
                                 "allowed/"};
  handler.compiled_seccomp = true;
  for (const char* name :
       {"run.oci.seccomp_bpf_data", "run.oci.systemd.subgroup", "org.systemd.property.ExecStartPre",
        "io.kubernetes.cri.sandbox-id", "else", "Allowed/x"}) {
    (*pod.mutable_annotations())[name] = "evil";
    (*container.mutable_annotations())[name] = "evil";
  }
  (*pod.mutable_annotations())["allowed/x"] = "fine";
  annotations["io.kubernetes.cri.sandbox-id"] = "the daemon's";
  EXPECT_EQ(At(Spec(), "/annotations"), OrderedJson::parse(R"({
      "allowed/x": "fine", "io.kubernetes.cri.sandbox-id": "the daemon's"})"));
}

TEST_F(SpecTest, NamespacesAreJoinedByPath) {
  namespaces = {"/run/ns/net", "/run/ns/ipc", "/run/ns/uts", "/proc/7/ns/pid"};
  EXPECT_THAT(NamespaceTypes(),
              ::testing::ElementsAre("mount", "network=/run/ns/net", "uts=/run/ns/uts",
                                     "ipc=/run/ns/ipc", "pid", "cgroup"));
  mutable_security()->mutable_namespace_options()->set_pid(cri::POD);
  EXPECT_THAT(NamespaceTypes(), ::testing::Contains("pid=/proc/7/ns/pid"));
  mutable_security()->mutable_namespace_options()->set_pid(cri::TARGET);
  EXPECT_THAT(NamespaceTypes(), ::testing::Contains("pid=/proc/7/ns/pid"));
}

TEST_F(SpecTest, HostNamespacesAreAbsent) {
  mutable_pod_namespaces()->set_network(cri::NODE);
  mutable_pod_namespaces()->set_ipc(cri::NODE);
  mutable_security()->mutable_namespace_options()->set_pid(cri::NODE);
  host.cgroup_mode = base::CgroupMode::kV1;
  EXPECT_THAT(NamespaceTypes(), ::testing::ElementsAre("mount"));
}

TEST_F(SpecTest, ThePodDecidesNetworkAndIpc) {
  mutable_security()->mutable_namespace_options()->set_network(cri::NODE);
  mutable_security()->mutable_namespace_options()->set_ipc(cri::NODE);
  EXPECT_THAT(NamespaceTypes(), ::testing::IsSupersetOf({"network", "uts", "ipc"}));
}

TEST_F(SpecTest, PrivilegedSeesTheHostsCgroups) {
  MakePrivileged();
  EXPECT_THAT(NamespaceTypes(), ::testing::Not(::testing::Contains("cgroup")));
}

TEST_F(SpecTest, SenselessNamespacesAreRefused) {
  mutable_pod_namespaces()->set_network(cri::TARGET);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "namespace_options.network");
  mutable_pod_namespaces()->set_network(cri::POD);
  mutable_security()->mutable_namespace_options()->set_pid(cri::TARGET);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "namespace_options.target_id");
  mutable_security()->mutable_namespace_options()->set_pid(cri::POD);
  cri::UserNamespace* userns = mutable_pod_namespaces()->mutable_userns_options();
  userns->set_mode(cri::POD);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "userns_options.uids");
  userns->set_mode(cri::CONTAINER);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "userns_options");
  userns->set_mode(cri::NODE);
  EXPECT_TRUE(Build().ok());
  userns->add_uids();
  ExpectRefused(absl::StatusCode::kInvalidArgument, "userns_options");
}

TEST_F(SpecTest, PathsAreHiddenAsSent) {
  EXPECT_EQ(At(Spec(), "/linux/maskedPaths"), OrderedJson::array());
  mutable_security()->add_masked_paths("/proc/kcore");
  mutable_security()->add_readonly_paths("/proc/sys");
  EXPECT_EQ(At(Spec(), "/linux/maskedPaths"), OrderedJson::array({"/proc/kcore"}));
  EXPECT_EQ(At(Spec(), "/linux/readonlyPaths"), OrderedJson::array({"/proc/sys"}));
  mutable_security()->add_masked_paths("proc/kcore");
  ExpectRefused(absl::StatusCode::kInvalidArgument, "masked_paths[1]");
}

TEST_F(SpecTest, DevicesAreDeniedAllThenAllowed) {
  devices = {{.type = 'b',
              .path = "/dev/disk",
              .major = 8,
              .minor = 1,
              .mode = 0640,
              .uid = 0,
              .gid = 6,
              .access = "r"}};
  EXPECT_EQ(At(Spec(), "/linux/resources/devices"), OrderedJson::parse(R"([
      {"allow": false, "access": "rwm"},
      {"allow": true, "type": "b", "major": 8, "minor": 1, "access": "r"}])"));
  EXPECT_EQ(At(Spec(), "/linux/devices"), OrderedJson::parse(R"([
      {"path": "/dev/disk", "type": "b", "major": 8, "minor": 1, "fileMode": 416, "uid": 0,
       "gid": 6}])"));
}

TEST_F(SpecTest, SysctlsAreForNamespacesTheRuntimeMakes) {
  (*pod.mutable_linux()->mutable_sysctls())["net.core.somaxconn"] = "1";
  (*pod.mutable_linux()->mutable_sysctls())["kernel.msgmax"] = "2";
  EXPECT_EQ(At(Spec(), "/linux/sysctl"),
            OrderedJson::parse(R"({"kernel.msgmax": "2", "net.core.somaxconn": "1"})"));
  namespaces.net = "/run/ns/net";
  EXPECT_EQ(At(Spec(), "/linux/sysctl"), OrderedJson::parse(R"({"kernel.msgmax": "2"})"));
  namespaces.ipc = "/run/ns/ipc";
  EXPECT_EQ(At(Spec(), "/linux/sysctl"), nullptr);
}

TEST_F(SpecTest, PidsLimitIsTheConfiguredOne) {
  defaults.pids_limit = 7;
  EXPECT_EQ(At(Spec(), "/linux/resources/pids"), OrderedJson::parse(R"({"limit": 7})"));
}

TEST_F(SpecTest, ReadOnlyRootIsTheRequestsOrTheNodes) {
  mutable_security()->set_readonly_rootfs(true);
  EXPECT_EQ(At(Spec(), "/root/readonly"), true);
  mutable_security()->set_readonly_rootfs(false);
  defaults.read_only_rootfs = true;
  EXPECT_EQ(At(Spec(), "/root/readonly"), true);
}

TEST_F(SpecTest, PrivilegedWithoutHostDevicesMayUseItsOwnOnly) {
  MakePrivileged();
  devices.push_back({.path = "/dev/mine", .major = 1, .minor = 3, .access = "r"});
  EXPECT_EQ(At(Spec(), "/linux/resources/devices").size(), 1);
  EXPECT_EQ(At(Spec(), "/linux/resources/devices/0/allow"), true);
  handler.privileged_host_devices = false;
  EXPECT_EQ(At(Spec(), "/linux/resources/devices/0/allow"), false);
  EXPECT_EQ(At(Spec(), "/linux/resources/devices/1/access"), "r");
}

TEST_F(SpecTest, ResourceErrorsNameTheirField) {
  container.mutable_linux()->mutable_resources()->set_cpu_shares(-1);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "linux.resources.cpu_shares");
}

}  // namespace
}  // namespace runtimeservice
