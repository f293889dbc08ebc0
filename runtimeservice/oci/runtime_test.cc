#include "runtimeservice/oci/runtime.h"

#include <csignal>

#include "base/files.h"
#include "base/strings.h"
#include "gmock/gmock.h"
#include "runtimeservice/oci/container_fixture.h"

namespace runtimeservice {
namespace {

using ::base::StrCat;
using ::testing::HasSubstr;

class RuntimeTest : public ContainerFixture, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    ContainerFixture::SetUp();
    UseRuntime(GetParam());
    if (const std::string missing = Missing(); !missing.empty()) {
      GTEST_SKIP() << "SKIP: " << missing;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Runtimes, RuntimeTest, ::testing::Values("crun", "runc"),
                         [](const auto& tested) { return std::string(tested.param); });

TEST_P(RuntimeTest, StateFollowsTheContainer) {
  EXPECT_TRUE(absl::IsNotFound(runtime().State(Patience(), id()).status()));
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("sleep 1000")));
  const auto running = runtime().State(Patience(), id());
  ASSERT_TRUE(running.ok()) << running.status();
  EXPECT_EQ(running->status, "running");
  EXPECT_EQ(running->pid, connection().state().pid);
  ASSERT_TRUE(runtime().Kill(Patience(), id(), SIGKILL, KillScope::kAll).ok());
  WaitForExit();
  const auto stopped = runtime().State(Patience(), id());
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_EQ(stopped->status, "stopped");
  EXPECT_EQ(stopped->pid, 0);
}

TEST_P(RuntimeTest, StartOfAFileThatIsNoProgramFailsOrTheContainerSaysWhy) {
  // Passes the runtime's look at the path; only the kernel refuses it.
  ASSERT_TRUE(base::ReplaceFile(directory() + "/bundle/rootfs/bin/garbage",
                                "\x01\x02 not a program", 0755, base::Durability::kVolatile)
                  .ok());
  BundleOptions options;
  options.args = {"/bin/garbage"};
  auto monitor = NewMonitor::Launch(Patience(), launcher(), Prepare(options));
  ASSERT_TRUE(monitor.ok()) << monitor.status();
  const auto pid = monitor->Create(Patience());
  ASSERT_TRUE(pid.ok()) << pid.status();
  ASSERT_TRUE(monitor->Acknowledge().ok());
  const absl::Status started = runtime().Start(Patience(), id());
  ASSERT_TRUE(Eventually([&] { return ReadExit(state_dir())->has_value(); }));
  EXPECT_NE((*ReadExit(state_dir()))->code, 0);
  EXPECT_THAT(StrCat(started.message(), ReadLog()), HasSubstr("xec format error"));
}

TEST_P(RuntimeTest, StartOfAnUnknownContainerHasTheRuntimesWords) {
  const absl::Status status = runtime().Start(Patience(), id());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(std::string(status.message()),
              ::testing::AnyOf(HasSubstr(id()), HasSubstr("does not exist")));
}

TEST_P(RuntimeTest, KillOfWhatIsGoneIsAFailedPrecondition) {
  EXPECT_TRUE(
      absl::IsFailedPrecondition(runtime().Kill(Patience(), id(), SIGTERM, KillScope::kInit)));
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("exit 0")));
  WaitForExit();
  EXPECT_TRUE(
      absl::IsFailedPrecondition(runtime().Kill(Patience(), id(), SIGTERM, KillScope::kInit)));
}

TEST_P(RuntimeTest, DeleteTwiceIsOk) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("sleep 1000")));
  EXPECT_TRUE(runtime().Delete(Patience(), id()).ok());
  EXPECT_TRUE(runtime().Delete(Patience(), id()).ok());
  EXPECT_EQ(WaitForExit().code, 137);
}

TEST_P(RuntimeTest, CallEndsWithTheDeadline) {
  const absl::Status status = runtime().Start(Context::Detached(absl::ZeroDuration()), id());
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
}

TEST_P(RuntimeTest, VersionNamesTheRuntime) {
  const auto version = runtime().Version(Patience());
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_THAT(*version, HasSubstr(StrCat(GetParam(), " version ")));
}

TEST_P(RuntimeTest, FeaturesAreAnObjectOrUnknown) {
  const auto features = runtime().Features(Patience());
  ASSERT_TRUE(features.ok()) << features.status();
  EXPECT_TRUE(features->is_null() || features->contains("ociVersionMin"));
}

TEST_P(RuntimeTest, ExecRunsInTheContainerAndHasItsExitStatus) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("sleep 1000")));
  ExecSpec spec;
  spec.process_file = directory() + "/process.json";
  spec.pid_file = directory() + "/exec.pid";
  spec.log_file = directory() + "/exec.log";
  const auto exec = [&](const std::string& args) {
    EXPECT_TRUE(base::ReplaceFile(spec.process_file,
                                  StrCat(R"({"terminal":false,"user":{"uid":0,"gid":0},"cwd":"/",)",
                                         R"("env":["PATH=/bin"],"args":)", args, "}"),
                                  0600, base::Durability::kVolatile)
                    .ok());
    return base::RunCommand(Patience(), runtime().ExecCommand(id(), spec));
  };
  const auto result = exec(R"(["/bin/sh","-c","echo from $$; echo e >&2; exit 9"])");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->exit.code, 9);
  EXPECT_THAT(result->out, ::testing::StartsWith("from "));
  EXPECT_EQ(result->err, "e\n");
  EXPECT_EQ(Runtime::ExecError(spec.log_file), "");
  EXPECT_TRUE(base::Exists(spec.pid_file));

  const auto failed = exec(R"(["/bin/no-such-program"])");
  ASSERT_TRUE(failed.ok()) << failed.status();
  EXPECT_NE(failed->exit.code, 0);
  EXPECT_THAT(Runtime::ExecError(spec.log_file) + failed->err, HasSubstr("no-such-program"));
}

TEST(KnowsRecursiveReadOnlyTest, IsSaidOfCrunFrom1_4) {
  EXPECT_TRUE(KnowsRecursiveReadOnly("crun version 1.4"));
  EXPECT_TRUE(KnowsRecursiveReadOnly("crun version 1.8.1"));
  EXPECT_TRUE(KnowsRecursiveReadOnly("crun version 1.21"));
  EXPECT_TRUE(KnowsRecursiveReadOnly("crun version 2.0-rc1"));
  EXPECT_FALSE(KnowsRecursiveReadOnly("crun version 1.3"));
  EXPECT_FALSE(KnowsRecursiveReadOnly("crun version 0.21"));
  EXPECT_FALSE(KnowsRecursiveReadOnly("crun version UNKNOWN"));
  EXPECT_FALSE(KnowsRecursiveReadOnly("runc version 1.1.5"));  // Says so itself.
  EXPECT_FALSE(KnowsRecursiveReadOnly(""));
}

TEST(SpecVersionTest, ItIsTheNewestThatBothSidesKnow) {
  const auto version = [](const char* max) {
    return SpecVersion(base::Json{{"ociVersionMin", "1.0.0"}, {"ociVersionMax", max}});
  };
  EXPECT_EQ(SpecVersion(base::Json()), "1.0.2") << "a runtime without the command";
  EXPECT_EQ(version("1.0.2-dev"), "1.0.2");
  EXPECT_EQ(version("1.0.0"), "1.0.2") << "what such runtimes have always been given";
  EXPECT_EQ(version("1.1.0+dev"), "1.1.0");
  EXPECT_EQ(version("1.2.1"), "1.2.1");
  EXPECT_EQ(version("1.10.0"), "1.3.0");
  EXPECT_EQ(version("2.0.0"), "1.3.0");
  EXPECT_EQ(version("newest"), "1.0.2");
}

}  // namespace
}  // namespace runtimeservice
