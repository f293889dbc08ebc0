#include "runtimeservice/oci/container_fixture.h"

#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_split.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/id.h"
#include "base/json.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

using base::Json;
using base::StrCat;

// crun refuses a hybrid cgroup tree while a controller is left on the v2 side.
void MountHugetlb() {
  const std::string path = "/sys/fs/cgroup/hugetlb";
  const auto controllers = base::ReadFile("/sys/fs/cgroup/unified/cgroup.controllers");
  if (controllers.ok() && controllers->find("hugetlb") != std::string::npos) {
    mkdir(path.c_str(), 0755);
    mount("hugetlb", path.c_str(), "cgroup", 0, "hugetlb");
  }
}

Json Mount(const char* target, const char* type, std::vector<std::string> options) {
  return {{"destination", target}, {"type", type}, {"source", type}, {"options", options}};
}

Json Config(const BundleOptions& options, const std::string& cgroup) {
  Json namespaces = {{{"type", "mount"}}, {{"type", "ipc"}}, {{"type", "uts"}}};
  if (options.own_pid_namespace) {
    namespaces.push_back({{"type", "pid"}});
  }
  Json resources = Json::object();
  if (options.memory_limit > 0) {
    resources["memory"] = {{"limit", options.memory_limit}};
  }
  Json devices = {{{"allow", true}, {"access", "rwm"}}};
  resources["devices"] = devices;
  return {
      {"ociVersion", "1.0.2"},
      {"process",
       {{"terminal", options.terminal},
        {"user", {{"uid", 0}, {"gid", 0}}},
        {"args", options.args},
        {"env", {"PATH=/bin"}},
        {"cwd", "/"}}},
      {"root", {{"path", "rootfs"}}},
      {"mounts",
       {Mount("/proc", "proc", {}), Mount("/dev", "tmpfs", {"mode=755"}),
        Mount("/dev/pts", "devpts", {"newinstance", "ptmxmode=0666", "mode=0620"})}},
      {"linux", {{"namespaces", namespaces}, {"cgroupsPath", cgroup}, {"resources", resources}}}};
}

}  // namespace

bool Eventually(const std::function<bool()>& condition) {
  const Context limit = Context::Detached(absl::Seconds(10));
  while (!condition()) {
    if (!limit.Check().ok()) {
      return false;
    }
    poll(nullptr, 0, 5);
  }
  return true;
}

std::string ProgramDirectory() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
}

void ContainerFixture::SetUp() {
  char pattern[] = "/tmp/crisp-oci-XXXXXX";
  ASSERT_NE(mkdtemp(pattern), nullptr);
  directory_ = pattern;
  id_ = base::RandomHex64();
  cgroup_ = StrCat("/crisp-test-", id_.substr(0, 16));
  for (const char* name : {"/state", "/log", "/bundle/rootfs/bin", "/bundle/rootfs/proc",
                           "/bundle/rootfs/dev", "/runtime"}) {
    ASSERT_TRUE(base::MakeDirectories(directory_ + name).ok());
  }
  launcher_ = std::make_unique<base::Launcher>(ProgramDirectory() + "/crisp-init", "");
  MountHugetlb();
  UseRuntime("crun");
  if (const std::string missing = Missing(); !missing.empty()) {
    GTEST_SKIP() << "SKIP: " << missing;
  }
  const std::string busybox = directory_ + "/bundle/rootfs/bin/busybox";
  std::filesystem::copy_file("/bin/busybox", busybox);
  for (const char* applet : {"sh", "sleep", "cat", "stty", "tail", "yes", "head", "seq"}) {
    ASSERT_EQ(symlink("busybox", StrCat(directory_, "/bundle/rootfs/bin/", applet).c_str()), 0);
  }
}

void ContainerFixture::TearDown() {
  connection_.reset();
  if (runtime_ != nullptr && Missing().empty()) {
    EXPECT_TRUE(runtime_->Delete(Patience(), id_).ok());
    EXPECT_TRUE(base::KillCgroup(Patience(), cgroup_).ok());
    EXPECT_TRUE(TakeMonitorLock(Patience(), state_dir()).ok());
    EXPECT_TRUE(base::RemoveCgroup(cgroup_).ok());
  }
  EXPECT_TRUE(base::RemoveTree(directory_).ok());
}

std::string ContainerFixture::Missing() const {
  if (geteuid() != 0) {
    return "root";
  }
  for (const std::string& path : {std::string("/bin/busybox"), runtime_path_}) {
    if (access(path.c_str(), X_OK) != 0) {
      return path;
    }
  }
  return "";
}

void ContainerFixture::UseRuntime(const std::string& name) {
  for (const char* folder : {"/usr/sbin/", "/usr/bin/"}) {
    if (base::Exists(folder + name) || runtime_path_.empty()) {
      runtime_path_ = folder + name;
    }
  }
  RuntimeConfig config;
  config.path = runtime_path_;
  config.root = directory_ + "/runtime";
  runtime_ = std::make_unique<Runtime>(config, *launcher_);
}

MonitorSpec ContainerFixture::Prepare(const BundleOptions& options) {
  EXPECT_TRUE(base::ReplaceFile(directory_ + "/bundle/config.json",
                                base::DumpJson(Config(options, cgroup_)), 0600,
                                base::Durability::kVolatile)
                  .ok());
  MonitorSpec spec;
  spec.monitor_path = ProgramDirectory() + "/crisp-monitor";
  spec.container_id = id_;
  spec.runtime = runtime_->MonitorCommand();
  spec.bundle = directory_ + "/bundle";
  spec.state_dir = state_dir();
  spec.log_path = log_path();
  spec.terminal = options.terminal;
  return spec;
}

MonitorSpec ContainerFixture::PrepareScript(const std::string& script) {
  BundleOptions options;
  options.args = {"/bin/sh", "-c", script};
  return Prepare(options);
}

void ContainerFixture::Run(const MonitorSpec& spec) {
  auto monitor = NewMonitor::Launch(Patience(), *launcher_, spec);
  ASSERT_TRUE(monitor.ok()) << monitor.status();
  const auto pid = monitor->Create(Patience());
  ASSERT_TRUE(pid.ok()) << pid.status();
  ASSERT_TRUE(monitor->Acknowledge().ok());
  auto connection = MonitorConnection::Connect(Patience(), spec.state_dir);
  ASSERT_TRUE(connection.ok()) << connection.status();
  connection_ = *std::move(connection);
  EXPECT_EQ(connection_->state().pid, *pid);
  const absl::Status started = runtime_->Start(Patience(), id_);
  ASSERT_TRUE(started.ok()) << started;
}

ExitRecord ContainerFixture::WaitForExit() {
  pollfd entry = {connection_->fd(), POLLRDHUP, 0};
  EXPECT_EQ(poll(&entry, 1, 30'000), 1);
  const auto record = ReadExit(state_dir());
  EXPECT_TRUE(record.ok()) << record.status();
  EXPECT_TRUE(record->has_value());
  return record.ok() ? record->value_or(ExitRecord()) : ExitRecord();
}

std::string ContainerFixture::ReadLog() const {
  return base::ReadFile(log_path(), 256 << 20).value_or("");
}

std::vector<std::string> ContainerFixture::LogRecords() const {
  std::vector<std::string> records;
  for (const std::string& line :
       std::vector<std::string>(absl::StrSplit(ReadLog(), '\n', absl::SkipEmpty()))) {
    records.push_back(line.substr(line.find(' ') + 1));
  }
  return records;
}

bool ContainerFixture::LogHas(const std::string& record) const {
  const std::vector<std::string> records = LogRecords();
  return std::find(records.begin(), records.end(), record) != records.end();
}

MonitorConnection ContainerFixture::Connect() {
  auto connection = MonitorConnection::Connect(Patience(), state_dir());
  EXPECT_TRUE(connection.ok()) << connection.status();
  return *std::move(connection);
}

}  // namespace runtimeservice
