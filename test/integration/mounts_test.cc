// Mounts of containers: sources on the host, what the node adds, and what cannot be mounted.
#include "base/mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <optional>
#include <thread>

#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"
#include "test/integration/hanging_mount.h"

namespace test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// What containers share with the host is in a folder of its own.
class MountsTest : public IntegrationTest {
 protected:
  explicit MountsTest(const std::string& runtime = "crun") : IntegrationTest(runtime) {}

  void SetUp() override {
    IntegrationTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(Pull(kBusybox));
    ASSERT_OK_AND_ASSIGN(pod_, RunPod("pod"));
    ASSERT_OK(base::MakeDirectories(Shared()));
  }

  std::string Shared() const { return environment().Get("RUN") + "/shared"; }
  void Write(const std::string& name, const std::string& text) const {
    ASSERT_OK(base::ReplaceFile(base::StrCat(Shared(), "/", name), text, 0644,
                                base::Durability::kVolatile));
  }

  static cri::Mount* AddMount(const std::string& source, const std::string& destination,
                              cri::CreateContainerRequest* request) {
    cri::Mount* mount = request->mutable_config()->add_mounts();
    mount->set_host_path(source);
    mount->set_container_path(destination);
    return mount;
  }
  cri::CreateContainerRequest Request(const std::string& script) {
    return ContainerRequest(pod_, base::StrCat("c", ++containers_), script);
  }
  // What the script of the container prints; or the error.
  std::string Output(const cri::CreateContainerRequest& request) const {
    const auto container = Create(request);
    if (!container.ok()) return container.status().ToString();
    const absl::Status started = Start(*container);
    if (!started.ok()) return started.ToString();
    EXPECT_OK(WaitForExit(*container));
    std::string text;
    for (const auto line : absl::StrSplit(ReadLog("pod", request.config().log_path()), '\n')) {
      const size_t content = line.find(" F ");
      if (content != absl::string_view::npos) text += base::StrCat(line.substr(content + 3), "\n");
    }
    return text;
  }
  void ExpectNothingLeft() const {
    EXPECT_OK(RemovePod(pod_));
    EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
        << testing::PrintToString(Leftovers());
  }

  std::string pod_;
  int containers_ = 0;
};

class HostMountsTest : public MountsTest, public testing::WithParamInterface<std::string> {
 protected:
  HostMountsTest() : MountsTest(GetParam()) {}
};

INSTANTIATE_TEST_SUITE_P(Runtimes, HostMountsTest, testing::Values("crun", "runc"),
                         [](const auto& test) { return test.param; });

TEST_P(HostMountsTest, SourcesOfEveryKindAreMounted) {
  Write("file", "text\n");
  ASSERT_OK(base::MakeDirectories(Shared() + "/folder"));
  ASSERT_EQ(symlink("folder", (Shared() + "/link").c_str()), 0);
  Write("folder/inner", "inner\n");
  const base::UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  const std::string name = Shared() + "/socket";
  ASSERT_LT(name.size(), sizeof(address.sun_path));
  name.copy(address.sun_path, name.size());
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  cri::CreateContainerRequest request = Request(
      "cat /m/file; cat /m/link/inner; ls /m/missing; test -S /m/socket && echo socket; "
      "test -c /m/full && echo device; head -c 2 /m/full | wc -c");
  AddMount(name, "/m/socket", &request);
  AddMount("/dev/full", "/m/full", &request);
  AddMount(Shared() + "/link", "/m/link", &request);
  AddMount(Shared() + "/file", "/m/file", &request);
  AddMount(Shared() + "/made/on/demand", "/m/missing", &request);
  EXPECT_THAT(Output(request), StartsWith("text\ninner\nsocket\ndevice\n"));
  EXPECT_TRUE(base::Exists(Shared() + "/made/on/demand"));
  ExpectNothingLeft();
}

TEST_P(HostMountsTest, ADestinationMayGoThroughSymlinksOfTheImage) {
  Write("file", "text\n");
  cri::CreateContainerRequest request =
      ContainerRequest(pod_, "c", "cat /srv/data/sub/one /srv/data/two");
  ASSERT_OK(Pull("crisp-test/volumes:latest"));
  request.mutable_config()->mutable_image()->set_image(Image("crisp-test/volumes:latest"));
  AddMount(Shared() + "/file", "/shortcut/one", &request);
  AddMount(Shared() + "/file", "/upwards/two", &request);
  EXPECT_EQ(Output(request), "text\ntext\n");
  ExpectNothingLeft();
}

TEST_P(HostMountsTest, TheLastMountAtAPlaceCountsAndParentsComeFirst) {
  for (const char* name : {"one", "two", "outer"}) {
    ASSERT_OK(base::MakeDirectories(base::StrCat(Shared(), "/", name, "/sub")));
    Write(base::StrCat(name, "/mark"), base::StrCat(name, "\n"));
  }
  cri::CreateContainerRequest request =
      Request("cat /outer/mark /outer/sub/mark /outer/sub/sub/mark");
  AddMount(Shared() + "/one", "/outer/sub/sub", &request);
  AddMount(Shared() + "/one", "/outer/sub/", &request);
  AddMount(Shared() + "/outer", "outer", &request);
  AddMount(Shared() + "/two", "/outer/./sub", &request);
  EXPECT_EQ(Output(request), "outer\ntwo\none\n");
  ExpectNothingLeft();
}

TEST_P(HostMountsTest, AMountTakesThePlaceOfAStandardOne) {
  for (const char* name : {"hosts", "resolv", "hostname"}) {
    Write(name, base::StrCat("my ", name, "\n"));
  }
  cri::CreateContainerRequest request = Request(
      "cat /etc/hosts /etc/resolv.conf /etc/hostname; echo mine > /dev/shm/file; "
      "echo ended > /dev/termination-log");
  AddMount(Shared() + "/hosts", "/etc/hosts", &request);
  AddMount(Shared() + "/resolv", "/etc/resolv.conf", &request);
  AddMount(Shared() + "/hostname", "/etc/hostname", &request);
  AddMount(Shared() + "/shm", "/dev/shm", &request);
  Write("termination-log", "");
  AddMount(Shared() + "/termination-log", "/dev/termination-log", &request);
  EXPECT_EQ(Output(request), "my hosts\nmy resolv\nmy hostname\n");
  EXPECT_EQ(base::ReadFile(Shared() + "/shm/file").value_or(""), "mine\n");
  EXPECT_EQ(base::ReadFile(Shared() + "/termination-log").value_or(""), "ended\n");
  ExpectNothingLeft();
}

TEST_P(HostMountsTest, ReadOnlyReachesSubmountsOnlyWhenAskedTo) {
  const std::string sub = Shared() + "/volume/sub";
  ASSERT_OK(base::MakeDirectories(sub));
  ASSERT_OK(base::MountTmpfs(sub, 1 << 20, 0777));
  const base::ScopedMount mounted(sub);
  cri::CreateContainerRequest request =
      Request("touch /v/sub/file && echo written; touch /v/file 2>&1");
  AddMount(Shared() + "/volume", "/v", &request)->set_readonly(true);
  EXPECT_THAT(Output(request),
              AllOf(HasSubstr("written"), HasSubstr("/v/file: Read-only file system")));
  request = Request("touch /v/sub/other 2>&1; touch /file 2>&1; cat /file");
  cri::Mount* mount = AddMount(Shared() + "/volume", "/v", &request);
  mount->set_readonly(true);
  mount->set_recursive_read_only(true);
  Write("file", "text\n");
  mount = AddMount(Shared() + "/file", "/file", &request);
  mount->set_readonly(true);
  mount->set_recursive_read_only(true);
  EXPECT_THAT(Output(request),
              AllOf(HasSubstr("/v/sub/other: Read-only file system"),
                    HasSubstr("/file: Read-only file system"), HasSubstr("text\n")));
  const auto features = client().Call(&RuntimeStub::Status, cri::StatusRequest());
  ASSERT_OK(features);
  for (const cri::RuntimeHandler& handler : features->runtime_handlers()) {
    EXPECT_TRUE(handler.features().recursive_read_only_mounts()) << handler.name();
  }
  request.mutable_config()->mutable_metadata()->set_name("refused");
  mount->set_readonly(false);
  EXPECT_THAT(Create(request), HasCode(absl::StatusCode::kInvalidArgument));
  mount->set_readonly(true);
  mount->set_propagation(cri::PROPAGATION_BIDIRECTIONAL);
  EXPECT_THAT(Create(request), HasCode(absl::StatusCode::kInvalidArgument));
}

// Mounts at `source` and makes it what its parent is not: shared or private.
class PeerMount {
 public:
  PeerMount(const std::string& source, unsigned long type) : mount_(source) {
    EXPECT_OK(base::MakeDirectories(source));
    EXPECT_OK(base::MountTmpfs(source, 1 << 20, 0777));
    EXPECT_EQ(mount(nullptr, source.c_str(), nullptr, type, nullptr), 0);
  }

 private:
  base::ScopedMount mount_;
};

TEST_P(HostMountsTest, PropagationGoesAsFarAsItIsAskedTo) {
  const std::string source = Shared() + "/peers";
  const PeerMount peers(source, MS_SHARED);
  ASSERT_OK(base::MakeDirectories(source + "/later"));
  const auto run = [&](cri::MountPropagation propagation) {
    cri::CreateContainerRequest request = Request("exec sleep 4321");
    AddMount(source, "/peers", &request)->set_propagation(propagation);
    const auto container = Create(request);
    EXPECT_OK(container);
    EXPECT_OK(Start(container.value_or("")));
    return container.value_or("");
  };
  const std::string alone = run(cri::PROPAGATION_PRIVATE);
  const std::string slave = run(cri::PROPAGATION_HOST_TO_CONTAINER);
  const std::string peer = run(cri::PROPAGATION_BIDIRECTIONAL);
  ASSERT_OK(base::MountTmpfs(source + "/later", 1 << 20, 0777));
  const base::ScopedMount later(source + "/later");
  ASSERT_OK(base::ReplaceFile(source + "/later/file", "x", 0644, base::Durability::kVolatile));
  const auto sees = [&](const std::string& container) {
    const auto result = Exec(container, {"cat", "/peers/later/file"});
    return result.ok() && result->stdout() == "x";
  };
  EXPECT_FALSE(sees(alone));
  EXPECT_TRUE(sees(slave));
  EXPECT_TRUE(sees(peer));
}

TEST_P(HostMountsTest, PropagationNeedsASourceThatCan) {
  const std::string source = Shared() + "/private";
  const PeerMount mount(source, MS_PRIVATE);
  for (const auto propagation :
       {cri::PROPAGATION_HOST_TO_CONTAINER, cri::PROPAGATION_BIDIRECTIONAL}) {
    cri::CreateContainerRequest request = Request("true");
    AddMount(source, "/m", &request)->set_propagation(propagation);
    const absl::Status refused = Create(request).status();
    EXPECT_THAT(refused, HasCode(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(std::string(refused.message()), HasSubstr("mounts[0].propagation: "));
  }
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  EXPECT_THAT(containers, testing::IsEmpty());
}

TEST_P(HostMountsTest, TheCgroupIsThereAndReadOnlyUnlessPrivileged) {
  const std::string script =
      "ls /sys/fs/cgroup | grep -q -E 'memory|cgroup.procs' && echo there; "
      "grep -c -E ' /sys/fs/cgroup(/[^ ]*)? cgroup2? ro' /proc/mounts";
  EXPECT_THAT(Output(Request(script)), AllOf(StartsWith("there\n"), Not(HasSubstr("\n0\n"))));
  cri::RunPodSandboxRequest pod = PodRequest("privileged");
  pod.mutable_config()->mutable_linux()->mutable_security_context()->set_privileged(true);
  ASSERT_OK_AND_ASSIGN(const std::string privileged, RunPod(pod));
  cri::CreateContainerRequest request = ContainerRequest(privileged, "c", script);
  request.mutable_config()->mutable_linux()->mutable_security_context()->set_privileged(true);
  ASSERT_OK_AND_ASSIGN(const std::string container, Create(request));
  ASSERT_OK(Start(container));
  EXPECT_TRUE(LogGets("privileged", "c.log", "there"));
  EXPECT_TRUE(LogGets("privileged", "c.log", "0"));
}

// What the node's configuration adds to every container.
class NodeMountsTest : public MountsTest {
 protected:
  void Prepare() override {
    const std::string folder = environment().Get("RUN") + "/node";
    ASSERT_OK(base::MakeDirectories(folder + "/secrets"));
    const auto write = [&](const std::string& name, const std::string& text) {
      ASSERT_OK(base::ReplaceFile(folder + name, text, 0644, base::Durability::kVolatile));
    };
    write("/secrets/key", "secret\n");
    write("/mounts.conf", base::StrCat("# The node's\n", folder, "/secrets:/run/secrets\n", folder,
                                       "/missing:/run/missing\n"));
    ASSERT_OK(environment().EditConfig(
        "[crisp.image]",
        base::StrCat("read_only = true\ntimezone = \"Asia/Tokyo\"\n", "default_mounts_file = \"",
                     folder, "/mounts.conf\"\n", "absent_mount_sources_to_reject = [\"", folder,
                     "/never\"]\n\n", "[crisp.image]")));
  }
  std::string Node() const { return environment().Get("RUN") + "/node"; }
};

TEST_F(NodeMountsTest, EveryContainerHasThem) {
  const std::string output =
      Output(Request("cat /run/secrets/key; touch /run/secrets/new 2>&1; ls /run; date +%z; "
                     "touch /file 2>&1; touch /tmp/a /var/tmp/b /run/c && echo written"));
  EXPECT_THAT(output, StartsWith("secret\n"));
  EXPECT_THAT(output, HasSubstr("/run/secrets/new: Read-only file system"));
  EXPECT_THAT(output, HasSubstr("\nsecrets\n"));
  EXPECT_THAT(output, Not(HasSubstr("missing")));
  EXPECT_THAT(output, HasSubstr("+0900\n"));
  EXPECT_THAT(output, HasSubstr("/file: Read-only file system"));
  EXPECT_THAT(output, HasSubstr("written\n"));
}

TEST_F(NodeMountsTest, ARequestsMountTakesTheirPlace) {
  Write("key", "mine\n");
  cri::CreateContainerRequest request = Request("cat /run/secrets/key; date +%z");
  AddMount(Shared(), "/run/secrets", &request);
  AddMount("/usr/share/zoneinfo/Etc/UTC", "/etc/localtime", &request);
  EXPECT_EQ(Output(request), "mine\n+0000\n");
}

TEST_F(NodeMountsTest, AnAbsentSourceThatMustNotBeMadeIsRefused) {
  cri::CreateContainerRequest request = Request("true");
  AddMount(Node() + "/./never/", "/never", &request);
  const absl::Status refused = Create(request).status();
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("mounts[0].host_path: "));
  EXPECT_FALSE(base::Exists(Node() + "/never"));
  ASSERT_OK(base::MakeDirectories(Node() + "/never"));
  EXPECT_OK(Create(request));
}

// A create that is told of a file system that hangs.
class HangingSourceTest : public MountsTest {
 protected:
  void SetUp() override {
    MountsTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(base::MakeDirectories(Dead()));
    auto made = HangingMount::Make(Dead());
    if (!made.ok()) GTEST_SKIP() << "SKIP: FUSE: " << made.status();
    mount_.emplace(*std::move(made));
  }
  void TearDown() override {
    mount_.reset();
    MountsTest::TearDown();
  }

  std::string Dead() const { return environment().Get("RUN") + "/dead"; }
  cri::CreateContainerRequest HangingRequest() {
    cri::CreateContainerRequest request = Request("true");
    AddMount(Shared(), "/shared", &request);
    AddMount(Dead() + "/volume", "/volume", &request);
    return request;
  }

  std::optional<HangingMount> mount_;
};

TEST_F(HangingSourceTest, ThePodCanBeStoppedWhileACreateHangs) {
  absl::Status created;
  std::thread creating([&, request = HangingRequest()] { created = Create(request).status(); });
  EXPECT_TRUE(mount_->SomebodyHangs());
  EXPECT_OK(StopPod(pod_));
  creating.join();  // The stop has cancelled it.
  EXPECT_FALSE(created.ok());
  EXPECT_OK(RemovePod(pod_));
  EXPECT_THAT(Leftovers(), testing::ElementsAre(HasSubstr(Dead())));
}

TEST_F(HangingSourceTest, ARetryIsToldSoAndOtherContainersAreMade) {
  std::thread creating([&, request = HangingRequest()] { Create(request).status().IgnoreError(); });
  EXPECT_TRUE(mount_->SomebodyHangs());
  ASSERT_OK_AND_ASSIGN(const std::string other, RunPod("other"));
  EXPECT_OK(RunContainer(other, "c", "exec sleep 4321"));
  EXPECT_OK(StopPod(pod_));
  creating.join();
  // Another pod's container with the same source: nothing waits behind what hangs already.
  cri::CreateContainerRequest request = ContainerRequest(other, "second", "true");
  AddMount(Dead() + "/volume", "/volume", &request);
  const absl::Status refused = Create(request).status();
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("mounts[0].host_path: " + Dead()));
  // And the daemon ends although one of its threads cannot.
  ASSERT_OK_AND_ASSIGN(const base::ExitState end, daemon().Stop());
  EXPECT_EQ(end.code, 0) << daemon().Log();
}

TEST_F(HangingSourceTest, OnceTheServerIsBackTheSameRequestWorks) {
  const cri::CreateContainerRequest request = HangingRequest();
  std::thread creating([&] { Create(request).status().IgnoreError(); });
  EXPECT_TRUE(mount_->SomebodyHangs());
  mount_.reset();  // What stands there now is an empty folder.
  creating.join();
  ASSERT_OK(Create(request));
  EXPECT_TRUE(base::Exists(Dead() + "/volume"));
  ExpectNothingLeft();
}

}  // namespace
}  // namespace test
