// Starts of the daemon that find more than a crash: a reboot, damaged records.
#include <fcntl.h>

#include <csignal>
#include <functional>
#include <string>
#include <thread>

#include "base/files.h"
#include "base/mounts.h"
#include "base/record_store.h"
#include "base/strings.h"
#include "proto/state.pb.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

class RecoveryTest : public IntegrationTest {
 protected:
  std::string Records(std::string_view kind) const {
    return base::StrCat(environment().Get("ROOT"), "/records/", kind);
  }

  // Makes the record `id` one of an earlier boot.
  template <typename Record>
  absl::Status AgeRecord(std::string_view kind, const std::string& id) const {
    ASSIGN_OR_RETURN(const base::RecordStore store,
                     base::RecordStore::Open(Records(kind), base::Durability::kVolatile));
    ASSIGN_OR_RETURN(const std::string bytes, store.Get(id));
    Record record;
    if (!record.ParseFromString(bytes)) {
      return absl::DataLossError("not a record");
    }
    record.set_boot_id("an earlier boot");
    return store.Put(id, record.SerializeAsString());
  }

  bool EndIsKept(const std::string& id) const {
    const base::RecordStore store =
        base::RecordStore::Existing(Records("containers"), base::Durability::kVolatile);
    crisp::state::ContainerRecord record;
    return record.ParseFromString(store.Get(id).value_or("")) && record.has_end();
  }

  absl::Status Damage(std::string_view kind, const std::string& id) const {
    const std::string path = base::StrCat(Records(kind), "/", id);
    ASSIGN_OR_RETURN(std::string bytes, base::ReadFile(path));
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    return base::ReplaceFile(path, bytes, 0600, base::Durability::kVolatile);
  }
};

TEST_F(RecoveryTest, AfterARebootAllIsListedAsEndedAndTheAddressesAreFree) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string container, RunContainer(pod, "c", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const std::string ended, RunContainer(pod, "ended", "exit 42"));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus before, WaitForExit(ended));
  ASSERT_TRUE(Eventually([&] { return EndIsKept(ended); }));
  ASSERT_OK(daemon().Crash());
  // The machine going down takes the process along, unseen, and what is in /run.
  const std::string run = base::StrCat(environment().Get("RUN_ROOT"), "/containers/");
  ASSERT_OK_AND_ASSIGN(const std::string monitor,
                       base::ReadFile(run + container + "/monitor.lock"));
  ASSERT_EQ(kill(std::stoi(monitor), SIGKILL), 0);
  for (const pid_t pid : Processes("pod")) {
    kill(pid, SIGKILL);
  }
  for (const std::string& id : {container, ended}) {
    ASSERT_OK(base::Unmount(run + id + "/rootfs"));
    ASSERT_OK(base::RemoveTree(run + id));
  }
  ASSERT_OK(AgeRecord<crisp::state::ContainerRecord>("containers", ended));
  ASSERT_OK(AgeRecord<crisp::state::PodRecord>("pods", pod));
  ASSERT_OK(AgeRecord<crisp::state::ContainerRecord>("containers", container));
  ASSERT_OK(daemon().Start());

  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus pod_status, PodStatus(pod));
  EXPECT_EQ(pod_status.state(), cri::SANDBOX_NOTREADY);
  EXPECT_NE(pod_status.network().ip(), "");
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(container));
  EXPECT_EQ(status.state(), cri::CONTAINER_EXITED);
  EXPECT_EQ(status.exit_code(), 255);
  EXPECT_EQ(status.reason(), "Unknown");
  EXPECT_GE(status.finished_at(), status.started_at());
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus after, Status(ended));
  EXPECT_EQ(after.exit_code(), 42);
  EXPECT_EQ(after.reason(), before.reason());
  EXPECT_EQ(after.started_at(), before.started_at());
  EXPECT_EQ(after.finished_at(), before.finished_at());
  ASSERT_OK(StopPod(pod));
  ASSERT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
      << testing::PrintToString(Leftovers());
}

TEST_F(RecoveryTest, AContainerWhoseRecordIsDamagedIsEndedAndRemoved) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string kept, RunContainer(pod, "kept", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const std::string lost, RunContainer(pod, "lost", "exec sleep 4321"));
  const size_t before = Processes("pod").size();
  ASSERT_OK(daemon().Crash());
  ASSERT_OK(Damage("containers", lost));
  ASSERT_OK(daemon().Start());

  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  ASSERT_EQ(containers.size(), 1u);
  EXPECT_EQ(containers[0].id(), kept);
  EXPECT_EQ(containers[0].state(), cri::CONTAINER_RUNNING);
  EXPECT_EQ(Processes("pod").size(), before - 1);
  EXPECT_THAT(daemon().Log(), testing::HasSubstr(lost));
  ASSERT_OK(RemovePod(pod));
  // All but the record itself, kept for whoever wants to know.
  EXPECT_THAT(Leftovers(), testing::ElementsAre(testing::HasSubstr("containers/corrupt")));
}

TEST_F(RecoveryTest, AKilledMonitorEndsItsContainerAlone) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string hurt, RunContainer(pod, "hurt", "exec sleep 4321"));
  const std::string lock =
      base::StrCat(environment().Get("RUN_ROOT"), "/containers/", hurt, "/monitor.lock");
  ASSERT_OK_AND_ASSIGN(const std::string monitor, base::ReadFile(lock));
  ASSERT_OK_AND_ASSIGN(const std::string other, RunContainer(pod, "other", "exec sleep 4321"));
  ASSERT_EQ(kill(std::stoi(monitor), SIGKILL), 0);
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, WaitForExit(hurt));
  EXPECT_EQ(status.exit_code(), 255);
  EXPECT_EQ(status.reason(), "Unknown");
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus still, Status(other));
  EXPECT_EQ(still.state(), cri::CONTAINER_RUNNING);
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus again, Status(hurt));
  EXPECT_EQ(again.exit_code(), 255);
  EXPECT_EQ(again.finished_at(), status.finished_at());
  ASSERT_OK(RemovePod(pod));
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

// The state is on a file system that gets full.
class FullDiskTest : public RecoveryTest {
 protected:
  void Prepare() override {
    ASSERT_OK(base::MakeDirectories(Root()));
    ASSERT_OK(base::MountTmpfs(Root(), 48 << 20, 0700));
    mounted_ = base::ScopedMount(Root());
  }
  std::string Root() const { return environment().Get("ROOT"); }
  void FillUp() const {
    const auto file = base::Open(Root() + "/filler", O_WRONLY | O_CREAT);
    ASSERT_OK(file);
    // In blocks down to one byte, until nothing more fits.
    for (size_t size = 1 << 20; size > 0; size /= 2) {
      while (base::WriteAll(file->get(), std::string(size, 'x'), "filler").ok()) {
      }
    }
  }
  void GiveSpace() const { ASSERT_OK(base::RemoveFile(Root() + "/filler")); }

 private:
  base::ScopedMount mounted_;
};

TEST_F(FullDiskTest, WhatRunsCanBeStoppedAndRemoved) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string one, RunContainer(pod, "one", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const std::string two, RunContainer(pod, "two", "exec sleep 4321"));
  FillUp();
  EXPECT_FALSE(RunPod("another").ok());
  EXPECT_OK(StopContainer(one, 0));
  EXPECT_OK(RemoveContainer(one));
  EXPECT_OK(StopPod(pod));
  EXPECT_OK(RemovePod(pod));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::PodSandbox> pods, Pods());
  EXPECT_THAT(pods, testing::IsEmpty());
  GiveSpace();
  // All but the small file system itself.
  EXPECT_TRUE(Eventually([&] { return Leftovers().size() == 1; }))
      << testing::PrintToString(Leftovers());
  EXPECT_OK(RunPod("another"));  // The failed attempt kept no name.
}

// A runtime that hangs in one of its commands until the file `go` is there.
class HangingRuntimeTest : public RecoveryTest {
 protected:
  void Prepare() override {
    const std::string script = base::StrCat(environment().Get("RUN"), "/hanging-crun");
    ASSERT_OK(base::ReplaceFile(
        script,
        base::StrCat("#!/bin/sh\ncase \" $* \" in *\" $(cat ", Hang(), ") \"*) touch ", Hang(),
                     "ing; exec sleep 1000;; esac\nexec /usr/bin/crun \"$@\"\n"),
        0755, base::Durability::kVolatile));
    ASSERT_OK(HangIn("nothing"));
    ASSERT_OK(environment().EditConfig(
        "[crisp.image]", base::StrCat("[crisp.runtime.runtimes.crun]\nruntime_path = \"", script,
                                      "\"\n\n[crisp.image]")));
  }

  std::string Hang() const { return base::StrCat(environment().Get("RUN"), "/hang"); }
  absl::Status HangIn(std::string_view command) const {
    RETURN_IF_ERROR(base::RemoveFile(Hang() + "ing"));
    return base::ReplaceFile(Hang(), command, 0644, base::Durability::kVolatile);
  }
  bool Hangs() const {
    return Eventually([&] { return base::Exists(Hang() + "ing"); });
  }

  // A pod with one PID namespace, hence with a process that holds it.
  cri::RunPodSandboxRequest SharingPod() const {
    cri::RunPodSandboxRequest request = PodRequest("pod");
    request.mutable_config()
        ->mutable_linux()
        ->mutable_security_context()
        ->mutable_namespace_options()
        ->set_pid(cri::POD);
    return request;
  }

  // Crashes the daemon while `verb` is in the runtime's `command`, and starts it again.
  void CrashIn(std::string_view command, const std::function<void()>& verb) {
    ASSERT_OK(HangIn(command));
    std::thread caller(verb);
    EXPECT_TRUE(Hangs());
    EXPECT_OK(daemon().Crash());
    caller.join();
    ASSERT_OK(HangIn("nothing"));
    ASSERT_OK(daemon().Start());
  }
};

TEST_F(HangingRuntimeTest, APodWhoseHolderWasBeingCreatedIsUndone) {
  CrashIn("create", [&] { (void)RunPod(SharingPod()); });
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::PodSandbox> pods, Pods());
  EXPECT_THAT(pods, testing::IsEmpty());
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
      << testing::PrintToString(Leftovers());
  ASSERT_OK(RunPod("pod"));  // Its name is free.
}

TEST_F(HangingRuntimeTest, APodWhoseHolderWasBeingStartedIsUndone) {
  CrashIn("start", [&] { (void)RunPod(SharingPod()); });
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::PodSandbox> pods, Pods());
  EXPECT_THAT(pods, testing::IsEmpty());
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
      << testing::PrintToString(Leftovers());
  ASSERT_OK(RunPod("pod"));
}

TEST_F(HangingRuntimeTest, AContainerWhoseStartWasUnderWayCanStillBeStarted) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string container,
                       Create(ContainerRequest(pod, "c", "exec sleep 4321")));
  CrashIn("start", [&] { (void)Start(container); });
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(container));
  EXPECT_EQ(status.state(), cri::CONTAINER_CREATED);
  ASSERT_OK(Start(container));
  ASSERT_OK(RemovePod(pod));
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

TEST_F(HangingRuntimeTest, ARemovalThatWasUnderWayIsFinished) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string container, RunContainer(pod, "c", "exec sleep 4321"));
  CrashIn("delete", [&] { (void)RemoveContainer(container); });
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  EXPECT_THAT(containers, testing::IsEmpty());
  ASSERT_OK(RemovePod(pod));
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

}  // namespace
}  // namespace test
