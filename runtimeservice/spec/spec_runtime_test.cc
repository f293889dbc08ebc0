// Built specs under the real runtimes: what the container itself sees.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/cgroup.h"
#include "base/files.h"
#include "base/id.h"
#include "base/mounts.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "runtimeservice/spec/cgroup_path.h"
#include "runtimeservice/spec/spec_test_input.h"

namespace runtimeservice {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kBusybox[] = "/bin/busybox";

// crun of Debian 12 wants no controller on the v2 side of a hybrid tree; hugetlb is the one nobody
// mounts as v1.
void MountHugetlbAsV1() {
  const std::string path = "/sys/fs/cgroup/hugetlb";
  if (base::HostCgroupMode() == base::CgroupMode::kV1 &&
      !base::IsMountPoint(path).value_or(false)) {
    mkdir(path.c_str(), 0755);
    mount("cgroup", path.c_str(), "cgroup", 0, "hugetlb");
  }
}

// Runs containers of one runtime on a file system of busybox alone.
class SpecRuntimeTest : public ::testing::TestWithParam<const char*>, public TestInput {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || !base::Exists(GetParam()) || !base::Exists(kBusybox)) {
      GTEST_SKIP() << "SKIP: root, " << GetParam() << " and " << kBusybox;
    }
    MountHugetlbAsV1();
    char name[] = "/tmp/crisp-spec-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    rootfs = folder_ + "/bundle/rootfs";
    for (const char* directory : {"/bin", "/etc", "/tmp", "/home", "/opt"}) {
      ASSERT_TRUE(base::MakeDirectories(rootfs + directory).ok());
    }
    std::filesystem::copy_file(kBusybox, rootfs + "/bin/busybox");
    for (const char* applet : {"sh", "cat", "id", "ls", "grep", "stat", "touch", "hostname", "env",
                               "chmod", "mknod", "readlink", "pwd", "head", "umount"}) {
      std::filesystem::create_symlink("busybox", rootfs + "/bin/" + applet);
    }
    Write("/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n");
    Write("/etc/group", "root:x:0:\napp:x:1000:\nextra:x:50000:app\n");
    absl::StatusOr<HostFacts> facts = GatherHostFacts();
    ASSERT_TRUE(facts.ok()) << facts.status();
    host = *facts;
    filters_ = std::make_unique<SeccompFilters>(host);
    handler.compiled_seccomp = std::string_view(GetParam()).find("crun") != std::string_view::npos;
    handler.recursive_read_only = true;
    container_id_ = base::ContainerId::Random().str();
    cgroup_parent_ = base::StrCat("/crisp-spec-test-", getpid());
    cgroups_path = cgroup_parent_ + "/crisp-" + container_id_;
  }

  void TearDown() override {
    if (folder_.empty()) {
      return;
    }
    Runtime({"delete", "--force", container_id_});
    EXPECT_TRUE(base::RemoveCgroup(cgroup_parent_).ok());
    std::error_code error;
    std::filesystem::remove_all(folder_, error);
  }

  void Write(const std::string& path, const std::string& text) {
    ASSERT_TRUE(base::ReplaceFile(rootfs + path, text, 0644, base::Durability::kVolatile).ok());
  }

  base::CommandResult Runtime(std::vector<std::string> arguments) {
    std::vector<std::string> argv = {GetParam(), "--root", folder_ + "/state"};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    const base::Context context = base::Context::Detached(absl::Seconds(60));
    absl::StatusOr<base::CommandResult> result =
        base::RunCommand(context, {.argv = argv, .env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}});
    EXPECT_TRUE(result.ok()) << result.status();
    return result.value_or(base::CommandResult());
  }

  // Writes the bundle of a container whose shell runs `script`, the way a create does.
  absl::Status Prepare(const std::string& script) {
    container.clear_command();
    for (const std::string& word : {std::string("/bin/sh"), std::string("-c"), script}) {
      container.add_command(word);
    }
    const cri::LinuxContainerSecurityContext& security = container.linux().security_context();
    ASSIGN_OR_RETURN(const Capabilities capabilities,
                     ContainerCapabilities(security, defaults.capabilities, host));
    ASSIGN_OR_RETURN(const auto filter, filters_->Get(security, capabilities));
    seccomp = *filter;
    if (without_json_profile_) {
      seccomp.profile = nullptr;
    }
    ASSIGN_OR_RETURN(mounts, ResolveMountSources(container));
    ASSIGN_OR_RETURN(devices, ResolveDevices(container));
    ASSIGN_OR_RETURN(user, ResolveUser(security, image.user, rootfs));
    ASSIGN_OR_RETURN(const base::OrderedJson spec, Build());
    return base::ReplaceFile(folder_ + "/bundle/config.json", base::DumpJson(spec), 0600,
                             base::Durability::kVolatile);
  }

  // What `script` in the container prints, errors included.
  std::string Run(const std::string& script) {
    const absl::Status prepared = Prepare(script);
    if (!prepared.ok()) {
      return prepared.ToString();
    }
    const base::CommandResult result =
        Runtime({"run", "--bundle", folder_ + "/bundle", container_id_});
    return result.out + result.err;
  }

  void Create(const std::string& script) {
    const absl::Status prepared = Prepare(script);
    ASSERT_TRUE(prepared.ok()) << prepared;
    const base::CommandResult result =
        Runtime({"create", "--bundle", folder_ + "/bundle", container_id_});
    ASSERT_EQ(result.exit.code, 0) << result.err;
  }

  std::string folder_;
  std::string container_id_;
  std::string cgroup_parent_;
  std::unique_ptr<SeccompFilters> filters_;
  bool without_json_profile_ = false;
};

INSTANTIATE_TEST_SUITE_P(Runtimes, SpecRuntimeTest,
                         ::testing::Values("/usr/bin/crun", "/usr/sbin/runc"),
                         [](const auto& test) {
                           return std::string(std::filesystem::path(test.param).filename());
                         });

TEST_P(SpecRuntimeTest, PlainContainerRuns) { EXPECT_EQ(Run("echo hello; pwd"), "hello\n/\n"); }

TEST_P(SpecRuntimeTest, DefaultCapabilitiesAreTheConfiguredOnes) {
  // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE.
  const std::string out = Run("grep Cap /proc/self/status");
  EXPECT_THAT(out, HasSubstr("CapBnd:\t00000000000005fb"));
  EXPECT_THAT(out, HasSubstr("CapEff:\t00000000000005fb"));
  EXPECT_THAT(out, HasSubstr("CapInh:\t0000000000000000"));
  EXPECT_THAT(out, HasSubstr("CapAmb:\t0000000000000000"));
}

TEST_P(SpecRuntimeTest, DropAllLeavesNone) {
  mutable_security()->mutable_capabilities()->add_drop_capabilities("ALL");
  EXPECT_EQ(Run("grep CapBnd /proc/self/status"), "CapBnd:\t0000000000000000\n");
}

TEST_P(SpecRuntimeTest, PrivilegedHoldsWhatTheDaemonHolds) {
  MakePrivileged();
  absl::StatusOr<std::string> own = base::ReadFile("/proc/self/status");
  ASSERT_TRUE(own.ok());
  const size_t begin = own->find("CapBnd:");
  const std::string line = own->substr(begin, own->find('\n', begin) + 1 - begin);
  const std::string out =
      Run("grep -E 'CapBnd|Seccomp:' /proc/self/status; touch /sys/fs/cgroup/memory 2>&1; "
          "ls /dev/null; grep -c ' /sys sysfs ro' /proc/mounts");
  EXPECT_THAT(out, HasSubstr(line));
  EXPECT_THAT(out, HasSubstr("Seccomp:\t0"));
  EXPECT_THAT(out, HasSubstr("\n0\n"));  // No read-only /sys.
}

TEST_P(SpecRuntimeTest, NoProfileMeansNoFilter) {
  EXPECT_EQ(Run("grep Seccomp: /proc/self/status"), "Seccomp:\t0\n");
}

TEST_P(SpecRuntimeTest, RuntimeDefaultFilters) {
  mutable_security()->mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
  mutable_security()->mutable_capabilities()->add_add_capabilities("SYS_CHROOT");
  const std::string out = Run("grep Seccomp: /proc/self/status; hostname");
  EXPECT_THAT(out, HasSubstr("Seccomp:\t2"));
}

TEST_P(SpecRuntimeTest, ExecedProcessesAreFilteredToo) {
  mutable_security()->mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
  Create("read line < /fifo");
  EXPECT_EQ(mkfifo((rootfs + "/fifo").c_str(), 0600), 0);
  Runtime({"start", container_id_});
  const base::CommandResult result =
      Runtime({"exec", container_id_, "/bin/grep", "Seccomp:", "/proc/self/status"});
  EXPECT_EQ(result.out, "Seccomp:\t2\n") << result.err;
}

TEST_P(SpecRuntimeTest, LocalhostProfileDeniesWhatItNames) {
  const std::string path = folder_ + "/profile.json";
  ASSERT_TRUE(base::ReplaceFile(path,
                                R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                                  {"names": ["chmod", "fchmodat", "fchmodat2"],
                                   "action": "SCMP_ACT_ERRNO"}]})",
                                0644, base::Durability::kVolatile)
                  .ok());
  cri::SecurityProfile* profile = mutable_security()->mutable_seccomp();
  profile->set_profile_type(cri::SecurityProfile::Localhost);
  profile->set_localhost_ref(path);
  const std::string out = Run("grep Seccomp: /proc/self/status; chmod 700 /tmp");
  EXPECT_THAT(out, HasSubstr("Seccomp:\t2"));
  EXPECT_THAT(out, HasSubstr("Operation not permitted"));
}

TEST_P(SpecRuntimeTest, TheCompiledFilterAloneIsInForce) {
  if (!handler.compiled_seccomp) {
    GTEST_SKIP() << "SKIP: a runtime that takes compiled filters";
  }
  const std::string path = folder_ + "/profile.json";
  ASSERT_TRUE(base::ReplaceFile(path,
                                R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                                  {"names": ["chmod", "fchmodat", "fchmodat2"],
                                   "action": "SCMP_ACT_ERRNO", "errno": "EXDEV"}]})",
                                0644, base::Durability::kVolatile)
                  .ok());
  mutable_security()->mutable_seccomp()->set_profile_type(cri::SecurityProfile::Localhost);
  mutable_security()->mutable_seccomp()->set_localhost_ref(path);
  without_json_profile_ = true;
  const std::string out = Run("grep Seccomp: /proc/self/status; chmod 700 /tmp");
  EXPECT_THAT(out, HasSubstr("Seccomp:\t2"));
  EXPECT_THAT(out, HasSubstr("cross-device link"));
}

TEST_P(SpecRuntimeTest, SysAdminMaySetTheHostnameOnlyUnconfined) {
  mutable_security()->mutable_capabilities()->add_add_capabilities("SYS_ADMIN");
  const std::string path = folder_ + "/profile.json";
  ASSERT_TRUE(base::ReplaceFile(path,
                                R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                                  {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO"}]})",
                                0644, base::Durability::kVolatile)
                  .ok());
  cri::SecurityProfile* profile = mutable_security()->mutable_seccomp();
  profile->set_profile_type(cri::SecurityProfile::Localhost);
  profile->set_localhost_ref(path);
  EXPECT_THAT(Run("hostname other; hostname"), HasSubstr("Operation not permitted"));
  Runtime({"delete", "--force", container_id_});
  profile->set_profile_type(cri::SecurityProfile::Unconfined);
  EXPECT_EQ(Run("hostname other; hostname"), "other\n");
}

TEST_P(SpecRuntimeTest, UserAnnotationCannotReplaceTheFilter) {
  mutable_security()->mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
  handler.allowed_annotations = {"run.oci", "r", "run.oci.seccomp_bpf_data"};
  // "Allow everything", compiled: one BPF instruction.
  (*pod.mutable_annotations())["run.oci.seccomp_bpf_data"] = "BgAAAAAA/38=";
  (*container.mutable_annotations())["run.oci.seccomp_bpf_data"] = "BgAAAAAA/38=";
  mutable_security()->mutable_capabilities()->add_add_capabilities("SYS_CHROOT");
  // The default profile refuses a user namespace without SYS_ADMIN.
  std::filesystem::create_symlink("busybox", rootfs + "/bin/unshare");
  EXPECT_THAT(Run("unshare -U -r /bin/id"), HasSubstr("Function not implemented"));
}

TEST_P(SpecRuntimeTest, MaskedPathsAreEmptyAndReadonlyOnesRefuseWrites) {
  mutable_security()->add_masked_paths("/proc/timer_list");
  mutable_security()->add_masked_paths("/sys/firmware");
  mutable_security()->add_masked_paths("/does/not/exist");
  mutable_security()->add_readonly_paths("/tmp");
  const std::string out =
      Run("head -c 1 /proc/timer_list; ls /sys/firmware; touch /tmp/file; touch /opt/file");
  EXPECT_THAT(out, HasSubstr("/tmp/file: Read-only file system"));
  EXPECT_THAT(out, Not(HasSubstr("/opt/file")));
  EXPECT_THAT(out, Not(HasSubstr("acpi")));
  EXPECT_THAT(out, Not(HasSubstr("Timer")));
}

TEST_P(SpecRuntimeTest, ReadonlyRootRefusesWritesButDevTakesThem) {
  mutable_security()->set_readonly_rootfs(true);
  const std::string out = Run("touch /file; touch /dev/shm/file && echo shm");
  EXPECT_THAT(out, HasSubstr("Read-only file system"));
  EXPECT_THAT(out, HasSubstr("shm\n"));
}

TEST_P(SpecRuntimeTest, UserAndGroupsOfTheImageAndTheRequestAreInForce) {
  image.user = "app";
  mutable_security()->add_supplemental_groups(1234);
  EXPECT_EQ(Run("id -u; id -G"), "1000\n1000 1234 50000\n");
}

TEST_P(SpecRuntimeTest, UnnamedUserKeepsNoCapabilities) {
  mutable_security()->mutable_run_as_user()->set_value(4321);
  mutable_security()->mutable_run_as_group()->set_value(77);
  EXPECT_THAT(Run("id -u; id -g; grep CapEff /proc/self/status"),
              "4321\n77\nCapEff:\t0000000000000000\n");
}

TEST_P(SpecRuntimeTest, NoNewPrivilegesIsInForce) {
  mutable_security()->set_no_new_privs(true);
  EXPECT_THAT(Run("grep NoNewPrivs /proc/self/status"), HasSubstr("\t1"));
}

TEST_P(SpecRuntimeTest, MissingWorkingDirectoryIsMade) {
  container.set_working_dir("/not/there/yet");
  EXPECT_EQ(Run("pwd"), "/not/there/yet\n");
}

TEST_P(SpecRuntimeTest, PodFilesAreSeen) {
  const std::string directory = folder_ + "/pod";
  ASSERT_TRUE(base::MakeDirectories(directory + "/shm").ok());
  pod.mutable_dns_config()->add_servers("10.10.10.10");
  absl::StatusOr<PodFiles> files = WritePodFiles(directory, pod, "pod-name", {"10.1.2.3"});
  ASSERT_TRUE(files.ok()) << files.status();
  pod_files = *files;
  const std::string out =
      Run("cat /etc/resolv.conf /etc/hostname /etc/hosts; echo x > /dev/shm/from-container");
  EXPECT_THAT(out, HasSubstr("nameserver 10.10.10.10\npod-name\n127.0.0.1"));
  EXPECT_THAT(out, HasSubstr("10.1.2.3\tpod-name"));
  EXPECT_TRUE(base::Exists(directory + "/shm/from-container"));
}

TEST_P(SpecRuntimeTest, MountsAreNestedAndReadOnlyAsAsked) {
  ASSERT_TRUE(base::MakeDirectories(folder_ + "/outer").ok());
  ASSERT_TRUE(base::MakeDirectories(folder_ + "/inner").ok());
  AddMount(folder_ + "/inner", "/data/sub");
  AddMount(folder_ + "/outer", "data")->set_readonly(true);
  ASSERT_TRUE(base::MakeDirectories(folder_ + "/outer/sub").ok());
  const std::string out = Run("touch /data/file; touch /data/sub/file && echo written");
  EXPECT_THAT(out, HasSubstr("/data/file: Read-only file system"));
  EXPECT_THAT(out, HasSubstr("written"));
  EXPECT_TRUE(base::Exists(folder_ + "/inner/file"));
}

// A tmpfs at `<folder>/volume/sub` for as long as it lives.
class Submount {
 public:
  explicit Submount(const std::string& folder) : mount_(folder + "/volume/sub") {
    EXPECT_TRUE(base::MakeDirectories(mount_.target()).ok());
    EXPECT_TRUE(base::MountTmpfs(mount_.target(), 1 << 20, 0777).ok());
  }

 private:
  base::ScopedMount mount_;
};

TEST_P(SpecRuntimeTest, ReadonlyLeavesSubmountsWritable) {
  const Submount submount(folder_);
  AddMount(folder_ + "/volume", "/volume")->set_readonly(true);
  const std::string out = Run("touch /volume/sub/file && echo written; touch /volume/file");
  EXPECT_THAT(out, HasSubstr("written"));
  EXPECT_THAT(out, HasSubstr("/volume/file: Read-only file system"));
}

TEST_P(SpecRuntimeTest, RecursiveReadOnlyReachesSubmounts) {
  const Submount submount(folder_);
  cri::Mount* mount = AddMount(folder_ + "/volume", "/volume");
  mount->set_readonly(true);
  mount->set_recursive_read_only(true);
  EXPECT_THAT(Run("touch /volume/sub/file"), HasSubstr("Read-only file system"));
}

TEST_P(SpecRuntimeTest, DevicesAppearAndOthersAreRefused) {
  cri::Device* device = container.add_devices();
  device->set_host_path("/dev/full");
  device->set_container_path("/dev/my-full");
  device->set_permissions("r");
  mutable_security()->mutable_capabilities()->add_add_capabilities("MKNOD");
  const std::string out =
      Run("head -c 1 /dev/my-full > /dev/null && echo read; mknod /tmp/mem c 1 1; cat /tmp/mem");
  EXPECT_THAT(out, HasSubstr("read\n"));
  EXPECT_THAT(out, HasSubstr("Operation not permitted"));
}

TEST_P(SpecRuntimeTest, LimitsReachTheCgroup) {
  cri::LinuxContainerResources* resources = container.mutable_linux()->mutable_resources();
  resources->set_memory_limit_in_bytes(64 << 20);
  resources->set_cpu_shares(512);
  resources->set_cpu_quota(50000);
  resources->set_cpu_period(100000);
  cri::HugepageLimit* hugepages = resources->add_hugepage_limits();
  hugepages->set_page_size("64PB");
  defaults.pids_limit = 99;
  const bool v1 = host.cgroup_mode == base::CgroupMode::kV1;
  const std::string out =
      Run(v1 ? "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares "
               "/sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/pids/pids.max"
             : "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max");
  EXPECT_EQ(out, v1 ? "67108864\n512\n50000\n99\n" : "67108864\n99\n");
}

TEST_P(SpecRuntimeTest, OomScoreIsTheRequestedOne) {
  container.mutable_linux()->mutable_resources()->set_oom_score_adj(500);
  EXPECT_EQ(Run("cat /proc/self/oom_score_adj"), "500\n");
}

TEST_P(SpecRuntimeTest, OomScoreBelowTheDaemonsReachIsClamped) {
  container.mutable_linux()->mutable_resources()->set_oom_score_adj(-997);
  EXPECT_EQ(Run("cat /proc/self/oom_score_adj"),
            base::StrCat(std::max(host.min_oom_score_adj, -997), "\n"));
}

TEST_P(SpecRuntimeTest, HostNamespacesAreTheHosts) {
  mutable_pod_namespaces()->set_network(cri::NODE);
  mutable_pod_namespaces()->set_ipc(cri::NODE);
  mutable_security()->mutable_namespace_options()->set_pid(cri::NODE);
  std::string expected;
  for (const char* name : {"net", "ipc", "uts", "pid"}) {
    expected += std::filesystem::read_symlink(base::StrCat("/proc/self/ns/", name)).string() + "\n";
  }
  EXPECT_EQ(Run("for n in net ipc uts pid; do readlink /proc/self/ns/$n; done"), expected);
}

TEST_P(SpecRuntimeTest, NewNamespacesAreNotTheHosts) {
  for (const char* name : {"net", "ipc", "uts", "pid"}) {
    const std::string own = std::filesystem::read_symlink(base::StrCat("/proc/self/ns/", name));
    EXPECT_THAT(Run(base::StrCat("readlink /proc/self/ns/", name)), Not(HasSubstr(own)));
    Runtime({"delete", "--force", container_id_});
  }
}

TEST_P(SpecRuntimeTest, SysctlsOfNewNamespacesAreSet) {
  (*pod.mutable_linux()->mutable_sysctls())["kernel.shm_rmid_forced"] = "1";
  (*pod.mutable_linux()->mutable_sysctls())["net.ipv4.ip_forward"] = "1";
  EXPECT_EQ(Run("cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_forward"), "1\n1\n");
}

TEST_P(SpecRuntimeTest, EnvironmentHasItsDefaults) {
  image.env = {"A=image", "B=image"};
  cri::KeyValue* variable = container.add_envs();
  variable->set_key("A");
  variable->set_value("request");
  const std::string out = Run("env");
  EXPECT_THAT(out, HasSubstr("A=request\n"));
  EXPECT_THAT(out, HasSubstr("B=image\n"));
  EXPECT_THAT(out, HasSubstr("HOSTNAME=test\n"));
  EXPECT_THAT(out, HasSubstr("PATH=/usr/local/sbin:"));
  EXPECT_THAT(out, HasSubstr("HOME=/root\n"));
}

}  // namespace
}  // namespace runtimeservice
