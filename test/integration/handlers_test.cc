// Runtime handlers: what their configuration says, programs that are missing, new or replaced. The
// runtime here is crun behind a script that notes how it was called.
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class HandlersTest : public IntegrationTest {
 protected:
  void Prepare() override {
    ASSERT_OK(environment().EditConfig(
        "[crisp.image]",
        base::StrCat(
            "[crisp.runtime.runtimes.noted]\n", "runtime_path = \"", Program(), "\"\n",
            "runtime_root = \"", RuntimeRoot(), "\"\n", "runtime_arguments = [\"--noted=yes\"]\n",
            "runtime_config_path = \"/etc/noted.conf\"\n", "monitor_env = [\"NOTED=monitor\"]\n",
            "monitor_cgroup = \"/", environment().name(), "/noted\"\n",
            "allowed_annotations = [\"dev.gvisor.\", \"org.example.a\"]\n",
            "disallowed_annotations = [\"dev.gvisor.flag.\"]\n", "container_create_timeout = 10\n",
            "container_min_memory = \"8MiB\"\n",
            "[crisp.runtime.runtimes.noted.default_annotations]\n",
            "\"org.example.a\" = \"default\"\n", "\"org.example.b\" = \"default\"\n\n",
            "[crisp.image]")));
  }

  std::string Program() const { return environment().Get("VAR") + "/noted"; }
  std::string RuntimeRoot() const { return environment().Get("RUN") + "/noted-root"; }
  std::string Calls() const {
    return base::ReadFile(environment().Get("VAR") + "/calls", 1 << 20).value_or("");
  }

  // The script: notes its arguments and NOTED, answers `features`, sleeps before a create when it
  // finds the file "slow", and leaves the rest to crun.
  void Install(std::string_view spec_version) {
    const std::string var = environment().Get("VAR");
    const std::string script = base::StrCat(
        "#!/bin/bash\necho \"$NOTED $*\" >> ", var, "/calls\n",
        "rest=()\nfor word in \"$@\"; do\n  case $word in\n", "    --noted=*|--config=*) ;;\n",
        "    features) echo '{\"ociVersionMin\":\"1.0.0\",\"ociVersionMax\":\"", spec_version,
        "\",\"mountOptions\":[\"rro\"]}'; exit 0 ;;\n", "    create) [ -e ", var,
        "/slow ] && sleep 4321; rest+=(\"$word\") ;;\n",
        "    *) rest+=(\"$word\") ;;\n  esac\ndone\nexec crun \"${rest[@]}\"\n");
    ASSERT_OK(base::ReplaceFile(Program(), script, 0755, base::Durability::kVolatile));
  }

  cri::RunPodSandboxRequest NotedPod(std::string_view name) const {
    cri::RunPodSandboxRequest request = PodRequest(name);
    request.set_runtime_handler("noted");
    return request;
  }

  base::Json Spec(const std::string& container) const {
    const auto text = base::ReadFile(
        base::StrCat(environment().Get("RUN_ROOT"), "/containers/", container, "/config.json"));
    const auto json = text.ok() ? base::ParseJson(*text) : text.status();
    EXPECT_OK(json);
    return json.value_or(base::Json::object());
  }

  cri::StatusResponse NodeStatus(bool verbose = false) const {
    cri::StatusRequest request;
    request.set_verbose(verbose);
    const auto status = client().Call(&RuntimeStub::Status, request);
    EXPECT_OK(status);
    return status.value_or(cri::StatusResponse());
  }

  // The messages of the conditions that are not met, with their names.
  std::string Troubles() const {
    std::string text;
    const cri::StatusResponse status = NodeStatus();
    for (const cri::RuntimeCondition& condition : status.status().conditions()) {
      if (!condition.status()) {
        text += base::StrCat(condition.type(), ": ", condition.message(), "\n");
      }
    }
    return text;
  }
};

TEST_F(HandlersTest, AMissingProgramStopsItsPodsAloneUntilItIsThere) {
  EXPECT_THAT(Troubles(), HasSubstr(base::StrCat(
                              "RuntimeHandlersReady: runtime handler \"noted\": ", Program())));
  EXPECT_THAT(Troubles(), Not(HasSubstr("RuntimeReady")));
  const absl::Status refused = RunPod(NotedPod("missing")).status();
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("runtime_handler \"noted\""));
  EXPECT_THAT(Leftovers(), IsEmpty());
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string other, RunPod("other"));
  EXPECT_OK(RunContainer(other, "c", "exec sleep 4321"));

  Install("1.0.2");
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(NotedPod("there")));
  EXPECT_OK(RunContainer(pod, "c", "exec sleep 4321"));
  EXPECT_EQ(Troubles(), "");
}

TEST_F(HandlersTest, AReplacedProgramIsAskedAgainAndServesWhatTheOldOneMade) {
  Install("1.0.2");
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(NotedPod("upgrade")));
  ASSERT_OK_AND_ASSIGN(const std::string old, RunContainer(pod, "old", "exec sleep 4321"));
  EXPECT_EQ(Spec(old)["ociVersion"], "1.0.2");
  Install("1.0.9");
  ASSERT_OK_AND_ASSIGN(const std::string current, RunContainer(pod, "new", "exec sleep 4321"));
  EXPECT_EQ(Spec(current)["ociVersion"], "1.0.9");
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse echo, Exec(old, {"echo", "on"}));
  EXPECT_EQ(echo.stdout(), "on\n");
  EXPECT_OK(StopContainer(old, 0));
  EXPECT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

TEST_F(HandlersTest, ItsOptionsReachTheRuntimeAndTheMonitor) {
  Install("1.0.2");
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(NotedPod("options")));
  ASSERT_OK_AND_ASSIGN(const std::string id, RunContainer(pod, "c", "exec sleep 4321"));
  std::string create;
  std::string start;
  for (const auto& line : absl::StrSplit(Calls(), '\n')) {
    const std::string text(line);
    if (text.find(" create ") != std::string::npos) create = text;
    if (text.find(" start ") != std::string::npos) start = text;
  }
  for (const std::string& call : {create, start}) {
    EXPECT_THAT(call, HasSubstr(base::StrCat("--root ", RuntimeRoot())));
    EXPECT_THAT(call, HasSubstr("--noted=yes --config=/etc/noted.conf"));
  }
  EXPECT_TRUE(create.starts_with("monitor --root")) << create;
  EXPECT_TRUE(base::Exists(base::StrCat(RuntimeRoot(), "/", id)));
  ASSERT_OK_AND_ASSIGN(const std::string monitor,
                       base::ReadFile(base::StrCat(environment().Get("RUN_ROOT"), "/containers/",
                                                   id, "/monitor.lock")));
  ASSERT_OK_AND_ASSIGN(const std::string cgroups,
                       base::ReadFile(base::StrCat("/proc/", monitor, "/cgroup")));
  EXPECT_THAT(cgroups, HasSubstr(base::StrCat("/", environment().name(), "/noted")));

  // After a restart its options are still those it was made with.
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK(StopContainer(id, 0));
  ASSERT_OK(RemoveContainer(id));
  EXPECT_FALSE(base::Exists(base::StrCat(RuntimeRoot(), "/", id)));
}

TEST_F(HandlersTest, AnnotationsPassByTheListsAndBothFamiliesNameThePod) {
  Install("1.0.2");
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest request = NotedPod("marks");
  auto& wanted = *request.mutable_config()->mutable_annotations();
  wanted["dev.gvisor.spec.mount.data.type"] = "tmpfs";
  wanted["dev.gvisor.flag.debug"] = "true";
  wanted["org.example.a"] = "pod";
  wanted["org.example.c"] = "pod";
  wanted["io.kubernetes.cri.sandbox-id"] = "another pod's";
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const std::string id, RunContainer(pod, "c", "exec sleep 4321"));
  const base::Json annotations = Spec(id)["annotations"];
  EXPECT_EQ(annotations["dev.gvisor.spec.mount.data.type"], "tmpfs");
  EXPECT_FALSE(annotations.contains("dev.gvisor.flag.debug"));
  EXPECT_EQ(annotations["org.example.a"], "pod");
  EXPECT_EQ(annotations["org.example.b"], "default");
  EXPECT_FALSE(annotations.contains("org.example.c"));
  EXPECT_EQ(annotations["io.kubernetes.cri.sandbox-id"], pod);
  EXPECT_EQ(annotations["io.kubernetes.cri.container-type"], "container");
  EXPECT_EQ(annotations["io.kubernetes.cri.sandbox-name"], "marks");
  EXPECT_EQ(annotations["io.kubernetes.cri-o.SandboxID"], pod);
  EXPECT_EQ(annotations["io.kubernetes.cri-o.ContainerType"], "container");
  EXPECT_EQ(annotations["io.kubernetes.cri-o.ContainerName"], "c");
}

TEST_F(HandlersTest, StoppingThePodCancelsACreateThatHangs) {
  Install("1.0.2");
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(NotedPod("hangs")));
  const std::string slow = environment().Get("VAR") + "/slow";
  ASSERT_OK(base::ReplaceFile(slow, "", 0600, base::Durability::kVolatile));
  absl::Status created;
  std::thread create(
      [&] { created = Create(ContainerRequest(pod, "c", "exec sleep 4321")).status(); });
  EXPECT_TRUE(Eventually([&] { return Calls().find(" create ") != std::string::npos; }));
  EXPECT_OK(StopPod(pod));
  create.join();
  EXPECT_FALSE(created.ok());
  EXPECT_THAT(created, Not(HasCode(absl::StatusCode::kDeadlineExceeded))) << "its own limit";
  EXPECT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

TEST_F(HandlersTest, ACreateThatTakesTooLongEndsAtTheHandlersTimeoutAndLeavesNothing) {
  Install("1.0.2");
  ASSERT_OK(
      environment().EditConfig("container_create_timeout = 10", "container_create_timeout = 1"));
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(NotedPod("slow")));
  const std::string slow = environment().Get("VAR") + "/slow";
  ASSERT_OK(base::ReplaceFile(slow, "", 0600, base::Durability::kVolatile));
  EXPECT_THAT(Create(ContainerRequest(pod, "c", "exec sleep 4321")),
              HasCode(absl::StatusCode::kDeadlineExceeded));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  EXPECT_EQ(containers.size(), 0u);
  ASSERT_EQ(unlink(slow.c_str()), 0);
  EXPECT_OK(RunContainer(pod, "c", "exec sleep 4321"));
  EXPECT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

TEST_F(HandlersTest, AMemoryLimitThatTheRuntimeCannotStartWithIsRefused) {
  Install("1.0.2");
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(NotedPod("small")));
  cri::CreateContainerRequest request = ContainerRequest(pod, "c", "exec sleep 4321");
  request.mutable_config()->mutable_linux()->mutable_resources()->set_memory_limit_in_bytes(4
                                                                                            << 20);
  const absl::Status refused = Create(request).status();
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("memory_limit_in_bytes"));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  EXPECT_EQ(containers.size(), 0u);
}

TEST_F(HandlersTest, StatusListsThemWithWhatTheirRuntimesCan) {
  Install("1.0.2");
  ASSERT_OK(CrashAndRestart());
  const cri::StatusResponse status = NodeStatus(true);
  std::map<std::string, bool> recursive;
  for (const cri::RuntimeHandler& handler : status.runtime_handlers()) {
    recursive[handler.name()] = handler.features().recursive_read_only_mounts();
  }
  EXPECT_EQ(recursive.count(""), 1u);
  EXPECT_EQ(recursive.count("crun"), 1u);
  EXPECT_TRUE(recursive["noted"]);
  ASSERT_OK_AND_ASSIGN(const base::Json config, base::ParseJson(status.info().at("config")));
  EXPECT_EQ(config["defaultRuntimeName"], "crun");
  EXPECT_EQ(config["runtimes"]["noted"]["runtimePath"], Program());
  EXPECT_EQ(config["runtimes"]["noted"]["runtimeArguments"][0], "--noted=yes");
  EXPECT_EQ(config["runtimes"]["noted"]["containerCreateTimeout"], 10);
  ASSERT_OK_AND_ASSIGN(const base::Json cni, base::ParseJson(status.info().at("cniconfig")));
  EXPECT_TRUE(cni["pluginDirs"].is_array());
}

}  // namespace
}  // namespace test
