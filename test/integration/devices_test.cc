// Devices of containers: requested, configured, by CDI; and what OCI hooks do beside them.
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A device that the runtimes do not give to every container and that can be opened without more
// than access to it: /dev/fuse. The devices every container has would show nothing.
constexpr int kMajor = 10;
constexpr int kMinor = 229;

class DevicesTest : public IntegrationTest, public testing::WithParamInterface<std::string> {
 protected:
  DevicesTest() : IntegrationTest(GetParam()) {}
  void Prepare() override {
    if (!base::Exists("/dev/fuse")) GTEST_SKIP() << "SKIP: /dev/fuse";
    top_ = environment().Get("RUN") + "/devices-test";
    for (const char* folder :
         {"/dev/sub", "/cdi", "/cdi-dynamic", "/hooks", "/hooks-etc", "/lib"}) {
      ASSERT_OK(base::MakeDirectories(top_ + folder));
    }
    for (const char* device : {"/dev/fuse", "/dev/sub/fuse"}) {
      ASSERT_EQ(mknod((top_ + device).c_str(), S_IFCHR | 0600, makedev(kMajor, kMinor)), 0)
          << strerror(errno);
    }
    ASSERT_OK(environment().EditConfig(
        "[crisp.runtime]\n",
        base::StrCat("[crisp.runtime]\ncdi_spec_dirs = [\"", top_, "/cdi\", \"", top_,
                     "/cdi-dynamic\"]\nhooks_dir = [\"", top_, "/hooks\", \"", top_,
                     "/hooks-etc\"]\n", Settings())));
  }
  // More keys of [crisp.runtime].
  virtual std::string Settings() { return ""; }

  void SetUp() override {
    IntegrationTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(Pull(kBusybox));
    ASSERT_OK_AND_ASSIGN(pod_, RunPod("pod"));
  }

  void Write(const std::string& file, const std::string& text, mode_t mode = 0644) const {
    ASSERT_OK(base::ReplaceFile(top_ + "/" + file, text, mode, base::Durability::kVolatile));
  }
  static cri::Device* AddDevice(const std::string& path, const std::string& place,
                                const std::string& access, cri::CreateContainerRequest* request) {
    cri::Device* device = request->mutable_config()->add_devices();
    device->set_host_path(path);
    device->set_container_path(place);
    device->set_permissions(access);
    return device;
  }
  // Runs it to its end; what it wrote.
  std::string Output(const cri::CreateContainerRequest& request) const {
    const auto container = Create(request);
    EXPECT_OK(container.status());
    if (!container.ok()) return "";
    EXPECT_OK(Start(*container));
    EXPECT_OK(WaitForExit(*container));
    return ReadLog("pod", request.config().log_path());
  }
  // Refused with this code and words, and nothing of it is left.
  void ExpectRefused(const cri::CreateContainerRequest& request, StatusCode code,
                     const std::vector<std::string>& words) const {
    const auto refused = Create(request);
    EXPECT_THAT(refused.status(), HasCode(code));
    for (const std::string& word : words) {
      EXPECT_THAT(std::string(refused.status().message()), HasSubstr(word));
    }
    ASSERT_OK_AND_ASSIGN(const auto left, Containers());
    EXPECT_THAT(left, IsEmpty());
    EXPECT_THAT(Processes("pod"), IsEmpty());
    const auto bundles = base::ListDirectory(environment().Get("RUN") + "/run/containers");
    EXPECT_TRUE(absl::IsNotFound(bundles.status()) || bundles->empty());
  }

  std::string top_;
  std::string pod_;
};
INSTANTIATE_TEST_SUITE_P(, DevicesTest, testing::Values("crun", "runc"),
                         [](const auto& one) { return one.param; });

constexpr char kTry[] =
    "for d in /dev/mine /dev/mine/fuse /dev/mine/sub/fuse; do"
    " [ -c $d ] || continue;"
    " (: <$d) 2>/dev/null && echo read $d; (: >$d) 2>/dev/null && echo write $d; echo seen $d;"
    "done; echo end";

TEST_P(DevicesTest, ADeviceCanBeUsedAsPermittedOnly) {
  cri::CreateContainerRequest request = ContainerRequest(pod_, "read", kTry);
  AddDevice(top_ + "/dev/fuse", "/dev/mine", "r", &request);
  EXPECT_THAT(Output(request), AllOf(HasSubstr("read /dev/mine"), Not(HasSubstr("write")),
                                     HasSubstr("seen /dev/mine")));
  request = ContainerRequest(pod_, "write", kTry);
  AddDevice(top_ + "/dev/fuse", "/dev/mine", "w", &request);
  EXPECT_THAT(Output(request), AllOf(Not(HasSubstr("read ")), HasSubstr("write /dev/mine")));
  request = ContainerRequest(pod_, "both", kTry);
  AddDevice(top_ + "/dev/fuse", "/dev/mine", "rwm", &request);
  EXPECT_THAT(Output(request), AllOf(HasSubstr("read "), HasSubstr("write ")));
}

TEST_P(DevicesTest, ADeviceThatWasNotAskedForIsDenied) {
  cri::CreateContainerRequest request = ContainerRequest(
      pod_, "c", "mknod /f c 10 229 && (: </f) 2>&1; mknod /n c 1 3 && : >/n && echo null");
  request.mutable_config()
      ->mutable_linux()
      ->mutable_security_context()
      ->mutable_capabilities()
      ->add_add_capabilities("MKNOD");
  EXPECT_THAT(Output(request), AllOf(HasSubstr("not permitted"), HasSubstr("null")));
}

TEST_P(DevicesTest, AFolderIsEveryDeviceInItAndASymlinkTheDevice) {
  ASSERT_EQ(symlink("fuse", (top_ + "/dev/link").c_str()), 0);
  cri::CreateContainerRequest request = ContainerRequest(pod_, "folder", kTry);
  AddDevice(top_ + "/dev", "/dev/mine", "r", &request);
  EXPECT_THAT(Output(request),
              AllOf(HasSubstr("read /dev/mine/fuse"), HasSubstr("read /dev/mine/sub/fuse"),
                    Not(HasSubstr("write"))));
  request = ContainerRequest(pod_, "link", kTry);
  AddDevice(top_ + "/dev/link", "/dev/mine", "r", &request);
  EXPECT_THAT(Output(request), HasSubstr("read /dev/mine"));
}

TEST_P(DevicesTest, BadDevicesAreRefusedByField) {
  const auto refused = [&](const std::string& path, const std::string& place,
                           const std::string& access, const std::string& field) {
    cri::CreateContainerRequest request = ContainerRequest(pod_, "bad", "true");
    request.mutable_config()->add_devices()->set_host_path("/dev/null");
    AddDevice(path, place, access, &request);
    ExpectRefused(request, StatusCode::kInvalidArgument, {"devices[1]." + field});
  };
  refused(top_ + "/dev/none", "/dev/x", "r", "host_path");
  refused("dev/null", "/dev/x", "r", "host_path");
  refused(top_ + "/lib/none", "/dev/x", "r", "host_path");
  refused("/etc/passwd", "/dev/x", "r", "host_path");
  refused("/dev/null", "/..", "r", "container_path");
  refused("/dev/null", "/dev/x", "rx", "permissions");
  refused("/dev/null", "/dev/x", "rr", "permissions");
}

std::string CdiFile(std::string_view top, std::string_view value) {
  return base::StrCat(R"(
cdiVersion: 0.5.0
kind: vendor.example/thing
containerEdits:
  env: [KIND=thing]
devices:
- name: "0"
  containerEdits:
    env: [THING=)",
                      value, R"(]
    deviceNodes:
    - {path: /dev/mine, hostPath: )",
                      top, R"(/dev/fuse, permissions: r}
    mounts:
    - {hostPath: )",
                      top,
                      R"(/lib, containerPath: /usr/lib/thing, options: [ro, nosuid, nodev, bind]}
    hooks:
    - {hookName: createRuntime, path: )",
                      top, R"(/hook, args: [hook, cdi]}
- name: plain
  containerEdits: {env: [PLAIN=1]}
)");
}

// Appends its argument and the id in the state it is given to the file `calls`.
std::string HookProgram(std::string_view top) {
  return base::StrCat("#!/bin/sh\nid=$(tr -d ' \\n' | sed 's/.*\"id\":\"\\([^\"]*\\)\".*/\\1/')\n",
                      "echo $1 $id >>", top, "/calls\n");
}

TEST_P(DevicesTest, ACdiDeviceBringsVariablesNodesMountsAndHooks) {
  Write("cdi/thing.yaml", CdiFile(top_, "one"));
  Write("hook", HookProgram(top_), 0755);
  Write("lib/data", "data of the thing\n");
  const std::string script = base::StrCat(
      kTry, "; env; cat /usr/lib/thing/data; touch /usr/lib/thing/x || echo read-only");
  cri::CreateContainerRequest request = ContainerRequest(pod_, "requested", script);
  request.mutable_config()->add_cdi_devices()->set_name("vendor.example/thing=0");
  request.mutable_config()->mutable_annotations()->insert(
      {"cdi.k8s.io/thing", "vendor.example/thing=0,vendor.example/thing=plain"});
  EXPECT_THAT(Output(request),
              AllOf(HasSubstr("KIND=thing"), HasSubstr("THING=one"), HasSubstr("PLAIN=1"),
                    HasSubstr("read /dev/mine"), Not(HasSubstr("write")),
                    HasSubstr("data of the thing"), HasSubstr("read-only")));
  ASSERT_OK_AND_ASSIGN(const auto containers, Containers());
  ASSERT_OK_AND_ASSIGN(const std::string calls, base::ReadFile(top_ + "/calls"));
  EXPECT_EQ(calls, base::StrCat("cdi ", containers.at(0).id(), "\n"));
  // Another container of the pod has nothing of it.
  EXPECT_THAT(Output(ContainerRequest(pod_, "other", script)),
              AllOf(Not(HasSubstr("THING")), Not(HasSubstr("seen"))));
}

TEST_P(DevicesTest, AnAnnotationAsksForACdiDeviceToo) {
  Write("cdi/thing.yaml", CdiFile(top_, "one"));
  cri::CreateContainerRequest request = ContainerRequest(pod_, "c", "env");
  request.mutable_config()->mutable_annotations()->insert(
      {"cdi.k8s.io/thing", "vendor.example/thing=plain"});
  EXPECT_THAT(Output(request),
              AllOf(HasSubstr("PLAIN=1"), HasSubstr("KIND=thing"), Not(HasSubstr("THING="))));
}

TEST_P(DevicesTest, AChangedCdiFileTakesEffectAtOnce) {
  Write("hook", HookProgram(top_), 0755);
  for (const char* value : {"one", "two", "three"}) {
    Write("cdi-dynamic/thing.yaml", CdiFile(top_, value));
    cri::CreateContainerRequest request = ContainerRequest(pod_, value, "echo $THING");
    request.mutable_config()->add_cdi_devices()->set_name("vendor.example/thing=0");
    EXPECT_THAT(Output(request), HasSubstr(base::StrCat(" F ", value)));
  }
}

TEST_P(DevicesTest, CdiDevicesThatCannotBeHadAreRefusedByField) {
  Write("cdi/bad.json", R"({"cdiVersion": "0.3.0", "kind": "vendor.example/thing", "later": 1})");
  Write("cdi/odd.json", R"({"cdiVersion": "1.1.0", "kind": "vendor.example/odd", "devices": [
      {"name": "gone", "containerEdits": {"deviceNodes": [{"path": "/dev/crisp-gone"}]}},
      {"name": "net", "containerEdits": {"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}},
      {"name": "twice", "containerEdits": {"env": ["A=b"]}}]})");
  Write("cdi/odd2.json", R"({"cdiVersion": "1.1.0", "kind": "vendor.example/odd", "devices": [
      {"name": "twice", "containerEdits": {"env": ["A=c"]}}]})");
  const auto refused = [&](const std::string& name, StatusCode code, const std::string& word) {
    cri::CreateContainerRequest request = ContainerRequest(pod_, "bad", "true");
    request.mutable_config()->add_cdi_devices()->set_name(name);
    ExpectRefused(request, code, {"CDI_devices[0].name", word});
    request.mutable_config()->clear_cdi_devices();
    request.mutable_config()->mutable_annotations()->insert({"cdi.k8s.io/x", name});
    ExpectRefused(request, code, {"annotations[\"cdi.k8s.io/x\"]", word});
  };
  refused("vendor.example/thing=0", StatusCode::kInvalidArgument, "no CDI device");
  refused("thing", StatusCode::kInvalidArgument, "\"thing\" is not vendor/class=name");
  refused("vendor.example/odd=twice", StatusCode::kInvalidArgument, "odd2.json");
  refused("vendor.example/odd=gone", StatusCode::kFailedPrecondition, "/dev/crisp-gone");
  refused("vendor.example/odd=net", StatusCode::kFailedPrecondition, "netDevices");
  EXPECT_THAT(daemon().Log(), HasSubstr("cdi/bad.json"));
}

// A hook file for `stages` whose program notes `word`.
std::string HookFile(std::string_view top, std::string_view word, std::string_view when,
                     std::string_view stages) {
  return base::StrCat(R"({"version": "1.0.0", "hook": {"path": ")", top,
                      R"(/hook", "args": ["hook", ")", word, R"("]}, "when": )", when,
                      R"(, "stages": )", stages, "}");
}

TEST_P(DevicesTest, HooksOfTheNodeRunForContainersThatMatch) {
  Write("hook", HookProgram(top_), 0755);
  Write("hooks/b.json", HookFile(top_, "second", R"({"always": true})", R"(["prestart"])"));
  Write("hooks/a.json", HookFile(top_, "hidden", R"({"always": true})", R"(["createRuntime"])"));
  Write("hooks-etc/a.json",
        HookFile(top_, "first", R"({"commands": ["^sh$"]})", R"(["createRuntime", "poststop"])"));
  Write("hooks/c.json", HookFile(top_, "other", R"({"commands": ["python"]})", R"(["poststop"])"));
  Write("hooks/d.json", "{");
  const auto calls = [&] { return base::ReadFile(top_ + "/calls").value_or(""); };
  ASSERT_OK_AND_ASSIGN(const std::string id, RunContainer(pod_, "c", "exec sleep 4321"));
  EXPECT_EQ(calls(), base::StrCat("first ", id, "\nsecond ", id, "\n"));
  ASSERT_OK(StopContainer(id, 0));
  ASSERT_OK(RemoveContainer(id));
  EXPECT_EQ(calls(), base::StrCat("first ", id, "\nsecond ", id, "\nfirst ", id, "\n"));
  EXPECT_THAT(daemon().Log(), HasSubstr("hooks/d.json"));
  // Looked at anew for each container.
  ASSERT_OK(base::RemoveFile(top_ + "/hooks-etc/a.json"));
  ASSERT_OK(base::RemoveFile(top_ + "/hooks/a.json"));
  ASSERT_OK(base::RemoveFile(top_ + "/hooks/b.json"));
  ASSERT_OK(base::RemoveFile(top_ + "/calls"));
  ASSERT_OK(RunContainer(pod_, "d", "true"));
  EXPECT_EQ(calls(), "");
}

TEST_P(DevicesTest, AHookThatFailsFailsTheCreateAndLeavesNothing) {
  Write("hook", "#!/bin/sh\nexit 7\n", 0755);
  Write("hooks/a.json", HookFile(top_, "x", R"({"always": true})", R"(["createRuntime"])"));
  ExpectRefused(ContainerRequest(pod_, "c", "true"), StatusCode::kUnknown, {});
}

class ConfiguredDevicesTest : public DevicesTest {
 protected:
  std::string Settings() override {
    return base::StrCat("additional_devices = [\"", top_, "/dev/fuse:/dev/more:r\"]\n",
                        "allowed_devices = [\"", top_, "/dev/fuse\"]\n",
                        "device_ownership_from_security_context = true\n");
  }
  void Prepare() override {
    DevicesTest::Prepare();
    if (HasFatalFailure() || IsSkipped()) return;
    constexpr char kHandlers[] =
        "[crisp.runtime.runtimes.crun]\nallowed_annotations = [\"io.kubernetes.cri-o.Devices\"]\n"
        "privileged_without_host_devices = true\n"
        "[crisp.runtime.runtimes.runc]\nallowed_annotations = [\"devices.crio.io\"]\n"
        "privileged_without_host_devices = true\n[crisp.image]\n";
    ASSERT_OK(environment().EditConfig("[crisp.image]\n", kHandlers));
  }
};
INSTANTIATE_TEST_SUITE_P(, ConfiguredDevicesTest, testing::Values("crun", "runc"),
                         [](const auto& one) { return one.param; });

TEST_P(ConfiguredDevicesTest, EveryContainerHasTheAdditionalDevices) {
  EXPECT_THAT(
      Output(ContainerRequest(
          pod_, "c", "(: </dev/more) && echo read; (: >/dev/more) 2>/dev/null || echo denied")),
      AllOf(HasSubstr("read"), HasSubstr("denied")));
  ASSERT_OK(base::RemoveFile(top_ + "/dev/fuse"));
  cri::CreateContainerRequest request = ContainerRequest(pod_, "d", "true");
  EXPECT_THAT(Create(request), HasCode(StatusCode::kFailedPrecondition));
}

TEST_P(ConfiguredDevicesTest, APodAsksForAllowedDevicesByAnnotation) {
  ASSERT_OK(RemovePod(pod_));
  cri::RunPodSandboxRequest pod = PodRequest("pod");
  const auto with = [&](const std::string& value) {
    (*pod.mutable_config()->mutable_annotations())["io.kubernetes.cri-o.Devices"] = value;
    return RunPod(pod);
  };
  ASSERT_OK_AND_ASSIGN(pod_, with(top_ + "/dev/fuse:/dev/mine:w"));
  // Reading the device is what additional_devices permits already.
  EXPECT_THAT(Output(ContainerRequest(pod_, "c", kTry)), HasSubstr("write /dev/mine"));
  ASSERT_OK(RemovePod(pod_));
  ASSERT_OK_AND_ASSIGN(pod_, with("/dev/zero"));
  ExpectRefused(ContainerRequest(pod_, "d", "true"), StatusCode::kInvalidArgument,
                {"annotations[\"io.kubernetes.cri-o.Devices\"]", "allowed_devices"});
}

TEST_P(ConfiguredDevicesTest, RequestedDevicesBelongToTheContainersUser) {
  cri::CreateContainerRequest request =
      ContainerRequest(pod_, "c", "stat -c '%u:%g' /dev/mine; (: </dev/mine) && echo read");
  AddDevice(top_ + "/dev/fuse", "/dev/mine", "r", &request);
  auto* security = request.mutable_config()->mutable_linux()->mutable_security_context();
  security->mutable_run_as_user()->set_value(1234);
  security->mutable_run_as_group()->set_value(4321);
  EXPECT_THAT(Output(request), HasSubstr("1234:4321"));
}

TEST_P(ConfiguredDevicesTest, PrivilegedGetsRequestedDevicesOnly) {
  ASSERT_OK(RemovePod(pod_));
  cri::RunPodSandboxRequest pod = PodRequest("pod");
  pod.mutable_config()->mutable_linux()->mutable_security_context()->set_privileged(true);
  ASSERT_OK_AND_ASSIGN(pod_, RunPod(pod));
  cri::CreateContainerRequest request =
      ContainerRequest(pod_, "c", base::StrCat(kTry, "; ls /dev; mknod /b b 7 0; (: </b) 2>&1"));
  request.mutable_config()->mutable_linux()->mutable_security_context()->set_privileged(true);
  AddDevice(top_ + "/dev/fuse", "/dev/mine", "r", &request);
  EXPECT_THAT(Output(request), AllOf(HasSubstr("read /dev/mine"), Not(HasSubstr("write")),
                                     Not(HasSubstr("kmsg")), HasSubstr("not permitted")));
}

}  // namespace
}  // namespace test
