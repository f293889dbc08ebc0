// Pods with a user namespace of their own: what is inside, what is on disk, what is refused.
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

constexpr uint32_t kFirst = 300000;
constexpr uint32_t kLength = 65536;

void SetMapping(cri::IDMapping* mapping, uint32_t container, uint32_t host, uint32_t length) {
  mapping->set_container_id(container);
  mapping->set_host_id(host);
  mapping->set_length(length);
}

void MapIds(cri::UserNamespace* user) {
  user->Clear();
  user->set_mode(cri::POD);
  SetMapping(user->add_uids(), 0, kFirst, kLength);
  SetMapping(user->add_gids(), 0, kFirst, kLength);
}

std::string Owner(const std::string& path) {
  struct stat status = {};
  return lstat(path.c_str(), &status) == 0 ? base::StrCat(status.st_uid, ":", status.st_gid)
                                           : "missing";
}

class UsernsTest : public IntegrationTest {
 protected:
  using IntegrationTest::IntegrationTest;

  static cri::NamespaceOption* Options(cri::RunPodSandboxRequest* request) {
    return request->mutable_config()
        ->mutable_linux()
        ->mutable_security_context()
        ->mutable_namespace_options();
  }
  cri::RunPodSandboxRequest UsernsPod(std::string_view name) const {
    cri::RunPodSandboxRequest request = PodRequest(name);
    MapIds(Options(&request)->mutable_userns_options());
    return request;
  }
  // As the kubelet sends it: the namespaces repeat the pod's.
  cri::CreateContainerRequest UsernsContainer(const std::string& pod, std::string_view name,
                                              std::string_view script) const {
    cri::CreateContainerRequest request = ContainerRequest(pod, name, script);
    cri::NamespaceOption* options = request.mutable_config()
                                        ->mutable_linux()
                                        ->mutable_security_context()
                                        ->mutable_namespace_options();
    options->set_pid(cri::CONTAINER);
    MapIds(options->mutable_userns_options());
    return request;
  }
  static cri::Mount* AddMount(cri::CreateContainerRequest* request, const std::string& source,
                              const std::string& target, bool mapped) {
    cri::Mount* mount = request->mutable_config()->add_mounts();
    mount->set_host_path(source);
    mount->set_container_path(target);
    if (mapped) {
      SetMapping(mount->add_uidmappings(), 0, kFirst, kLength);
      SetMapping(mount->add_gidmappings(), 0, kFirst, kLength);
    }
    return mount;
  }
  absl::StatusOr<std::string> CreateAndStart(const cri::CreateContainerRequest& request) const {
    ASSIGN_OR_RETURN(std::string container, Create(request));
    RETURN_IF_ERROR(Start(container));
    return container;
  }
  // What `script` prints in the container; its errors too.
  std::string Run(const std::string& container, const std::string& script) const {
    const auto result = Exec(container, {"sh", "-c", script});
    EXPECT_OK(result);
    return result.ok() ? result->stdout() + result->stderr() : "";
  }
  // A directory of this test's own on the host.
  std::string HostDirectory(const std::string& name) const {
    const std::string path = base::StrCat(environment().Get("RUN"), "/", name);
    EXPECT_OK(base::MakeDirectories(path));
    return path;
  }
  std::string Bundle(const std::string& container) const {
    return base::StrCat(environment().Get("RUN_ROOT"), "/containers/", container);
  }
  void ExpectNothingLeft() const {
    EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
    EXPECT_THAT(Leftovers(), testing::IsEmpty());
  }

  void ShowsItsOwnIds();
  void MapsVolumes();
  void WorksWithTheHostsNetworkAndIpc();
};

void UsernsTest::ShowsItsOwnIds() {
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest request = UsernsPod("ids");
  (*request.mutable_config()->mutable_linux()->mutable_sysctls())["kernel.shmmax"] = "1234567";
  (*request.mutable_config()->mutable_linux()->mutable_sysctls())["net.ipv4.ping_group_range"] =
      "0 7";
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus pod_status, PodStatus(pod));
  const cri::UserNamespace& echoed = pod_status.linux().namespaces().options().userns_options();
  EXPECT_EQ(echoed.mode(), cri::POD);
  ASSERT_EQ(echoed.uids_size(), 1);
  EXPECT_EQ(echoed.uids(0).host_id(), kFirst);
  ASSERT_OK_AND_ASSIGN(const std::string container,
                       CreateAndStart(UsernsContainer(pod, "c",
                                                      "echo out; echo again > /proc/self/fd/2; "
                                                      "exec sleep 4321")));
  EXPECT_TRUE(LogGets("ids", "c.log", "again", "stderr"));
  EXPECT_THAT(Run(container, "cat /proc/self/uid_map /proc/self/gid_map"),
              testing::ContainsRegex("0 +300000 +65536\n +0 +300000 +65536\n"));
  EXPECT_EQ(Run(container,
                "id -u; id -g; cat /proc/sys/kernel/shmmax "
                "/proc/sys/net/ipv4/ping_group_range"),
            "0\n0\n1234567\n0\t7\n");
  // Image files, the pod's files, shm, devices of the container's own.
  EXPECT_EQ(Run(container,
                "stat -c '%u:%g' / /bin/busybox /etc/hosts /etc/hostname /etc/resolv.conf /dev/shm "
                "/dev /dev/pts; touch /dev/shm/x && mkdir /dev/mqueue/y 2>/dev/null; "
                "ls /sys/class/net; echo x > /dev/null && echo fine"),
            "0:0\n0:0\n0:0\n0:0\n0:0\n0:0\n0:0\n0:0\neth0\nlo\nfine\n");
  // What it writes is its own on disk too, copied up or new, and the layers' is root's as before.
  EXPECT_EQ(Run(container,
                "echo new > /new && chown 1000:1001 /new && chmod 4755 /bin/busybox && "
                "rm -rf /home && echo fine"),
            "fine\n");
  const std::string upper =
      base::StrCat(environment().Get("ROOT"), "/containers/", container, "/upper");
  EXPECT_EQ(Owner(upper), "300000:300000");
  EXPECT_EQ(Owner(upper + "/new"), "301000:301001");
  EXPECT_EQ(Owner(upper + "/bin/busybox"), "300000:300000");
  const std::string layers = environment().Get("ROOT") + "/layers";
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> names, base::ListDirectory(layers));
  ASSERT_FALSE(names.empty());
  for (const std::string& name : names) {
    EXPECT_EQ(Owner(base::StrCat(layers, "/", name)), "0:0");
  }
  // Nothing but the root file system stays mounted in its bundle.
  ASSERT_OK_AND_ASSIGN(const std::string mounts, base::ReadFile("/proc/self/mountinfo"));
  EXPECT_THAT(mounts, HasSubstr(Bundle(container) + "/rootfs "));
  EXPECT_THAT(mounts, testing::Not(HasSubstr(Bundle(container) + "/store ")));
  EXPECT_OK(StopContainer(container, 0));
  EXPECT_OK(StopPod(pod));
  EXPECT_OK(RemovePod(pod));
  ExpectNothingLeft();
}

void UsernsTest::MapsVolumes() {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(UsernsPod("volumes")));
  const std::string volume = HostDirectory("volume");
  const std::string closed = HostDirectory("closed/inner");
  ASSERT_EQ(chmod((environment().Get("RUN") + "/closed").c_str(), 0700), 0);
  ASSERT_OK(base::ReplaceFile(volume + "/old", "x", 0600, base::Durability::kVolatile));
  ASSERT_OK(base::ReplaceFile(closed + "/file", "text", 0644, base::Durability::kVolatile));
  cri::CreateContainerRequest request = UsernsContainer(pod, "c", "exec sleep 4321");
  AddMount(&request, volume, "/mapped", true);
  AddMount(&request, volume, "/read-only", true)->set_readonly(true);
  AddMount(&request, volume + "/old", "/file", true);
  AddMount(&request, volume, "/plain", false);
  AddMount(&request, closed, "/closed", false);
  AddMount(&request, closed + "/file", "/closed-file", false);
  ASSERT_OK_AND_ASSIGN(const std::string container, CreateAndStart(request));
  EXPECT_EQ(Run(container,
                "stat -c %u:%g /mapped/old /file /plain/old; cat /mapped/old && "
                "echo; echo new > /mapped/new; chown 5:6 /mapped/new; "
                "touch /read-only/x; cat /closed/file /closed-file"),
            "0:0\n0:0\n65534:65534\nx\ntexttexttouch: /read-only/x: Read-only file system\n");
  EXPECT_EQ(Owner(volume + "/new"), "5:6");
  // The daemon's own copies of the mounts are gone once the container has its.
  EXPECT_FALSE(base::Exists(Bundle(container) + "/staged"));
  EXPECT_OK(StopPod(pod));
  EXPECT_OK(RemovePod(pod));
  EXPECT_TRUE(base::Exists(volume + "/new"));
  ExpectNothingLeft();
}

void UsernsTest::WorksWithTheHostsNetworkAndIpc() {
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest request = UsernsPod("host");
  Options(&request)->set_network(cri::NODE);
  Options(&request)->set_ipc(cri::NODE);
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  cri::CreateContainerRequest container_request = UsernsContainer(pod, "c", "exec sleep 4321");
  cri::NamespaceOption* options = container_request.mutable_config()
                                      ->mutable_linux()
                                      ->mutable_security_context()
                                      ->mutable_namespace_options();
  options->set_network(cri::NODE);
  options->set_ipc(cri::NODE);
  ASSERT_OK_AND_ASSIGN(const std::string container, CreateAndStart(container_request));
  const auto link = [](const char* name) {
    char text[64] = {};
    return readlink(base::StrCat("/proc/self/ns/", name).c_str(), text, sizeof(text) - 1) > 0
               ? std::string(text)
               : std::string();
  };
  EXPECT_EQ(Run(container, "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; id -u"),
            base::StrCat(link("net"), "\n", link("ipc"), "\n0\n"));
  EXPECT_THAT(Run(container, "cat /proc/self/uid_map"), HasSubstr("300000"));
  EXPECT_THAT(Run(container, "ls /sys/class/net"), HasSubstr("lo"));
  // Nothing below /sys can be written, whatever is mounted there.
  EXPECT_EQ(Run(container,
                "grep ' /sys' /proc/self/mounts | grep -v ' /sys/fs/cgroup ' | "
                "grep ' rw,'; grep -c ' /sys sysfs ro,' /proc/self/mounts"),
            "1\n");
  EXPECT_FALSE(base::Exists(Bundle(container) + "/staged"));
  EXPECT_OK(StopPod(pod));
  EXPECT_OK(RemovePod(pod));
  ExpectNothingLeft();
}

class UsernsRuncTest : public UsernsTest {
 protected:
  UsernsRuncTest() : UsernsTest("runc") {}
};

// A runtime gives what it finds as stdio to the root of the user namespace.
TEST_F(UsernsTest, TheHostsNullDeviceStaysRoots) {
  ASSERT_OK(Pull(kBusybox));
  struct stat before = {};
  ASSERT_EQ(stat("/dev/null", &before), 0);
  const auto pod = RunPod(UsernsPod("null"));
  ASSERT_OK(pod);
  const auto container = CreateAndStart(UsernsContainer(*pod, "main", "cat; sleep 1000"));
  ASSERT_OK(container);
  EXPECT_EQ(Run(*container, "cat; echo ended"), "ended\n");
  struct stat after = {};
  ASSERT_EQ(stat("/dev/null", &after), 0);
  EXPECT_EQ(after.st_uid, before.st_uid);
  EXPECT_EQ(after.st_gid, before.st_gid);
}

TEST_F(UsernsTest, ShowsItsOwnIds) { ShowsItsOwnIds(); }
TEST_F(UsernsRuncTest, ShowsItsOwnIds) { ShowsItsOwnIds(); }
TEST_F(UsernsTest, MapsVolumes) { MapsVolumes(); }
TEST_F(UsernsRuncTest, MapsVolumes) { MapsVolumes(); }
TEST_F(UsernsTest, WorksWithTheHostsNetworkAndIpc) { WorksWithTheHostsNetworkAndIpc(); }
TEST_F(UsernsRuncTest, WorksWithTheHostsNetworkAndIpc) { WorksWithTheHostsNetworkAndIpc(); }

TEST_F(UsernsTest, IsReportedForEachHandler) {
  ASSERT_OK_AND_ASSIGN(const cri::StatusResponse status,
                       client().Call(&RuntimeStub::Status, cri::StatusRequest()));
  ASSERT_GT(status.runtime_handlers_size(), 0);
  for (const cri::RuntimeHandler& handler : status.runtime_handlers()) {
    EXPECT_TRUE(handler.features().user_namespaces()) << handler.name();
  }
  EXPECT_TRUE(status.features().user_namespaces_host_network());
}

TEST_F(UsernsTest, FilesOfImageVolumesHaveItsIds) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(UsernsPod("image")));
  cri::CreateContainerRequest request = UsernsContainer(pod, "c", "exec sleep 4321");
  for (const char* sub_path : {"", "bin"}) {
    // The kubelet sends the mappings here too.
    cri::Mount* mount = AddMount(&request, "", base::StrCat("/volume", sub_path), true);
    mount->mutable_image()->set_image(Image(kBusybox));
    mount->set_image_sub_path(sub_path);
    mount->set_readonly(true);
  }
  ASSERT_OK_AND_ASSIGN(const std::string container, CreateAndStart(request));
  EXPECT_EQ(Run(container,
                "stat -c %u:%g /volume /volume/bin/busybox /volumebin/busybox; "
                "touch /volume/x"),
            "0:0\n0:0\n0:0\ntouch: /volume/x: Read-only file system\n");
  EXPECT_OK(StopPod(pod));
  EXPECT_OK(RemovePod(pod));
  ExpectNothingLeft();
}

TEST_F(UsernsTest, BadRequestsAreRefusedByFieldAndLeaveNothing) {
  ASSERT_OK(Pull(kBusybox));
  const std::string options = "config.linux.security_context.namespace_options.";
  const auto refused = [&](const std::string& words, auto change) {
    cri::RunPodSandboxRequest request = UsernsPod("bad");
    change(Options(&request)->mutable_userns_options(), Options(&request));
    const auto pod = RunPod(request);
    EXPECT_THAT(pod, HasCode(StatusCode::kInvalidArgument));
    EXPECT_THAT(std::string(pod.status().message()), HasSubstr(options + words));
  };
  refused("userns_options.mode", [](auto* user, auto*) { user->set_mode(cri::CONTAINER); });
  refused("userns_options.mode", [](auto* user, auto*) { user->set_mode(cri::TARGET); });
  refused("userns_options: mappings", [](auto* user, auto*) { user->set_mode(cri::NODE); });
  refused("userns_options.uids: ", [](auto* user, auto*) { user->clear_uids(); });
  refused("userns_options.gids: ",
          [](auto* user, auto*) { SetMapping(user->add_gids(), kLength, kFirst + kLength, 1); });
  refused("userns_options.uids[0].container_id",
          [](auto* user, auto*) { user->mutable_uids(0)->set_container_id(1); });
  refused("userns_options.gids[0].length",
          [](auto* user, auto*) { user->mutable_gids(0)->set_length(0); });
  refused("pid", [](auto*, auto* all) { all->set_pid(cri::NODE); });
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

TEST_F(UsernsTest, BadContainersAreRefusedByFieldAndLeaveNothing) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(UsernsPod("bad")));
  const auto refused = [&](StatusCode code, const std::string& words, auto change) {
    cri::CreateContainerRequest request = UsernsContainer(pod, "bad", "exec sleep 4321");
    change(&request, request.mutable_config()->mutable_linux()->mutable_security_context());
    const auto container = Create(request);
    EXPECT_THAT(container, HasCode(code));
    EXPECT_THAT(std::string(container.status().message()), HasSubstr(words));
  };
  const StatusCode invalid = StatusCode::kInvalidArgument;
  refused(invalid, "userns_options is another one", [](auto*, auto* security) {
    security->mutable_namespace_options()->mutable_userns_options()->mutable_uids(0)->set_host_id(
        kFirst + 1);
  });
  refused(invalid, "userns_options is another one", [](auto*, auto* security) {
    security->mutable_namespace_options()->mutable_userns_options()->Clear();
    security->mutable_namespace_options()->mutable_userns_options()->set_mode(cri::NODE);
  });
  refused(invalid, "namespace_options.pid",
          [](auto*, auto* security) { security->mutable_namespace_options()->set_pid(cri::NODE); });
  refused(invalid, "user 65536",
          [](auto*, auto* security) { security->mutable_run_as_user()->set_value(kLength); });
  refused(invalid, "group 70000",
          [](auto*, auto* security) { security->add_supplemental_groups(70000); });
  refused(invalid, "mounts[0].gidMappings", [&](auto* request, auto*) {
    AddMount(request, HostDirectory("x"), "/x", true)->clear_gidmappings();
  });
  refused(StatusCode::kFailedPrecondition, "mounts[0].uidMappings", [&](auto* request, auto*) {
    AddMount(request, "/proc/sys/kernel", "/x", true);  // No such file system can be mapped.
  });
  ASSERT_OK_AND_ASSIGN(const std::string plain, RunPod("plain"));
  cri::CreateContainerRequest request = ContainerRequest(plain, "c", "exec sleep 4321");
  AddMount(&request, HostDirectory("x"), "/x", true);
  const auto container = Create(request);
  EXPECT_THAT(container, HasCode(invalid));
  EXPECT_THAT(std::string(container.status().message()), HasSubstr("mounts[0].uidMappings"));
  EXPECT_OK(RemovePod(plain));
  EXPECT_OK(RemovePod(pod));
  ExpectNothingLeft();
}

TEST_F(UsernsTest, ASharedPidNamespaceIsTheUserNamespacesToo) {
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest request = UsernsPod("shared");
  Options(&request)->set_pid(cri::POD);
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  cri::CreateContainerRequest container_request = UsernsContainer(pod, "c", "exec sleep 4321");
  container_request.mutable_config()
      ->mutable_linux()
      ->mutable_security_context()
      ->mutable_namespace_options()
      ->set_pid(cri::POD);
  ASSERT_OK_AND_ASSIGN(const std::string container, CreateAndStart(container_request));
  // The holder of the namespace is in the pod's user namespace as well.
  EXPECT_EQ(Run(container,
                "cat /proc/1/comm; stat -c %u:%g /proc/1; "
                "test $(readlink /proc/1/ns/user) = $(readlink /proc/self/ns/user) && "
                "echo same"),
            "crisp-init\n0:0\nsame\n");
  cri::CreateContainerRequest debug = UsernsContainer(pod, "debug", "exec sleep 4322");
  cri::NamespaceOption* options = debug.mutable_config()
                                      ->mutable_linux()
                                      ->mutable_security_context()
                                      ->mutable_namespace_options();
  options->set_pid(cri::TARGET);
  options->set_target_id(container);
  ASSERT_OK_AND_ASSIGN(const std::string second, CreateAndStart(debug));
  EXPECT_THAT(Run(second, "ps"), HasSubstr("sleep 4321"));
  EXPECT_OK(StopPod(pod));
  EXPECT_OK(RemovePod(pod));
  ExpectNothingLeft();
}

TEST_F(UsernsTest, IsTakenUpAfterACrash) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(UsernsPod("crash")));
  ASSERT_OK_AND_ASSIGN(const std::string first,
                       CreateAndStart(UsernsContainer(pod, "first", "exec sleep 4321")));
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus status, PodStatus(pod));
  EXPECT_EQ(status.state(), cri::SANDBOX_READY);
  EXPECT_EQ(Run(first, "id -u"), "0\n");
  ASSERT_OK_AND_ASSIGN(const std::string second,
                       CreateAndStart(UsernsContainer(pod, "second", "exec sleep 4321")));
  EXPECT_EQ(Run(first, "readlink /proc/self/ns/user"), Run(second, "readlink /proc/self/ns/user"));
  // A pod whose user namespace is not its own any more is not ready.
  ASSERT_OK(RunProgram(
      {"/bin/umount", base::StrCat(environment().Get("RUN_ROOT"), "/ns/", pod, "/user")}));
  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus broken, PodStatus(pod));
  EXPECT_EQ(broken.state(), cri::SANDBOX_NOTREADY);
  EXPECT_OK(StopPod(pod));
  EXPECT_OK(RemovePod(pod));
  ExpectNothingLeft();
}

TEST_F(UsernsTest, APrivilegedContainerHasPowerInItsNamespacesOnly) {
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest pod_request = UsernsPod("privileged");
  pod_request.mutable_config()->mutable_linux()->mutable_security_context()->set_privileged(true);
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(pod_request));
  cri::CreateContainerRequest request = UsernsContainer(pod, "c", "exec sleep 4321");
  request.mutable_config()->mutable_linux()->mutable_security_context()->set_privileged(true);
  ASSERT_OK_AND_ASSIGN(const std::string container, CreateAndStart(request));
  EXPECT_EQ(Run(container,
                "hostname other && hostname; mkdir /t && mount -t tmpfs t /t && echo yes; "
                "cat /proc/sys/kernel/panic > /proc/sys/kernel/panic || echo no"),
            "other\nyes\nno\nsh: can't create /proc/sys/kernel/panic: Permission denied\n");
  EXPECT_OK(StopPod(pod));
  EXPECT_OK(RemovePod(pod));
  ExpectNothingLeft();
}

TEST_F(UsernsTest, SuchAPodCostsLittleMoreThanAnother) {
  ASSERT_OK(Pull(kBusybox));
  const auto live = [&](bool own, int i) {
    const absl::Time begin = absl::Now();
    const std::string name = base::StrCat("cost", own ? "own" : "host", i);
    const auto pod = RunPod(own ? UsernsPod(name) : PodRequest(name));
    EXPECT_OK(pod);
    if (!pod.ok()) return absl::ZeroDuration();
    EXPECT_OK(CreateAndStart(own ? UsernsContainer(*pod, "c", "exec sleep 4321")
                                 : ContainerRequest(*pod, "c", "exec sleep 4321")));
    const absl::Duration took = absl::Now() - begin;
    EXPECT_OK(StopPod(*pod));
    EXPECT_OK(RemovePod(*pod));
    return took;
  };
  // In turns, so that what else the machine does hits both.
  std::vector<absl::Duration> host, own;
  for (int i = 0; i < 9; ++i) {
    host.push_back(live(false, i));
    own.push_back(live(true, i));
  }
  std::sort(host.begin(), host.end());
  std::sort(own.begin(), own.end());
  const double ratio = absl::FDivDuration(own[4], host[4]);
  RecordProperty("ratio", std::to_string(ratio));
  std::printf("a pod with a container: %s, with a user namespace of its own %s, ratio %.2f\n",
              absl::FormatDuration(host[4]).c_str(), absl::FormatDuration(own[4]).c_str(), ratio);
  EXPECT_LT(ratio, 2);
}

TEST_F(UsernsTest, NothingIsLeftAfterCrashesInSuchPodsLives) {
  ASSERT_OK(Pull(kBusybox));
  const std::string volume = HostDirectory("volume");
  ASSERT_OK(base::ReplaceFile(volume + "/kept", "x", 0600, base::Durability::kVolatile));
  const unsigned rounds = EnvironmentNumber("CRISP_CRASH_ROUNDS", 8);
  const unsigned seed = EnvironmentNumber("CRISP_CRASH_SEED", std::random_device()());
  RecordProperty("seed", std::to_string(seed));
  std::mt19937 random(seed);
  for (unsigned round = 0; round < rounds; ++round) {
    SCOPED_TRACE(base::StrCat("round ", round, ", CRISP_CRASH_SEED=", seed));
    std::thread life([&] {
      for (int i = 0;; ++i) {
        const auto pod = RunPod(UsernsPod(base::StrCat("crash", round, "-", i)));
        if (!pod.ok()) return;
        cri::CreateContainerRequest request = UsernsContainer(*pod, "c", "exec sleep 4321");
        AddMount(&request, volume, "/volume", true);
        const auto container = CreateAndStart(request);
        if (!container.ok()) return;
        if (i % 2 == 0 && !StopContainer(*container, 0).ok()) return;
        if (!StopPod(*pod).ok() || !RemovePod(*pod).ok()) return;
      }
    });
    // The moment of the crash is the point of the test: nothing is waited for.
    poll(nullptr, 0, static_cast<int>(random() % 700));
    EXPECT_OK(daemon().Crash());
    life.join();
    ASSERT_OK(daemon().Start());
    ASSERT_OK_AND_ASSIGN(const std::vector<cri::PodSandbox> pods, Pods());
    for (const cri::PodSandbox& pod : pods) {
      EXPECT_OK(StopPod(pod.id()));
      EXPECT_OK(RemovePod(pod.id()));
    }
    EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
    ASSERT_THAT(Leftovers(), testing::IsEmpty());
    ASSERT_TRUE(base::Exists(volume + "/kept"));
  }
}

}  // namespace
}  // namespace test
