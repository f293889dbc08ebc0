#include "runtimeservice/devices/cdi_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "base/files.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CdiRegistryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crisp-cdi-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    top_ = name;
    for (const char* folder : {"/static", "/dynamic"}) {
      ASSERT_TRUE(base::MakeDirectories(top_ + folder).ok());
    }
    registry_.emplace(std::vector<std::string>{top_ + "/static", top_ + "/dynamic"});
  }
  void TearDown() override { std::filesystem::remove_all(top_); }

  void Write(const std::string& file, const std::string& text) const {
    ASSERT_TRUE(base::ReplaceFile(top_ + "/" + file, text, 0644, base::Durability::kVolatile).ok());
  }
  // A file whose devices, named by the rest, set the variable DEVICE to `value`.
  void WriteDevices(const std::string& file, const std::string& value,
                    const std::vector<std::string>& names) const {
    std::string text =
        "cdiVersion: 0.5.0\nkind: v.example/c\ncontainerEdits: {env: [SPEC=" + value +
        "]}\ndevices:\n";
    for (const std::string& name : names) {
      text += base::StrCat("- name: ", name, "\n  containerEdits: {env: [DEVICE_", name, "=", value,
                           "]}\n");
    }
    Write(file, text);
  }
  void Ask(const std::string& name) { config_.add_cdi_devices()->set_name("v.example/c=" + name); }
  std::vector<std::string> Env() {
    const absl::StatusOr<CdiEdits> edits = registry_->Resolve(config_, handler_);
    EXPECT_TRUE(edits.ok()) << edits.status();
    return edits.ok() ? edits->env : std::vector<std::string>();
  }
  std::string Refusal(absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    const absl::Status status = registry_->Resolve(config_, handler_).status();
    EXPECT_EQ(status.code(), code) << status;
    return std::string(status.message());
  }

  std::string top_;
  std::optional<CdiRegistry> registry_;
  cri::ContainerConfig config_;
  HandlerTraits handler_;
};

TEST_F(CdiRegistryTest, TheFilesOwnEditsComeOnceBeforeThoseOfTheDevices) {
  WriteDevices("static/a.yaml", "1", {"a", "b"});
  Ask("b");
  Ask("a");
  EXPECT_THAT(Env(), ElementsAre("SPEC=1", "DEVICE_b=1", "DEVICE_a=1"));
}

TEST_F(CdiRegistryTest, TheLaterFolderWins) {
  WriteDevices("static/a.yaml", "static", {"a", "b"});
  WriteDevices("dynamic/z.yaml", "dynamic", {"a"});
  Ask("a");
  Ask("b");
  EXPECT_THAT(Env(),
              ElementsAre("SPEC=dynamic", "DEVICE_a=dynamic", "SPEC=static", "DEVICE_b=static"));
}

TEST_F(CdiRegistryTest, TwoFilesOfOneFolderMakeADeviceUnusableUntilALaterFolderDecides) {
  WriteDevices("static/a.yaml", "1", {"a", "b"});
  WriteDevices("static/b.yaml", "2", {"a", "c"});
  Ask("a");
  EXPECT_THAT(Refusal(), testing::AllOf(HasSubstr("CDI_devices[0].name"),
                                        HasSubstr("static/a.yaml"), HasSubstr("static/b.yaml")));
  WriteDevices("dynamic/a.yaml", "3", {"a"});
  EXPECT_THAT(Env(), ElementsAre("SPEC=3", "DEVICE_a=3"));
  config_.Clear();
  Ask("c");
  EXPECT_THAT(Env(), ElementsAre("SPEC=2", "DEVICE_c=2"));
}

TEST_F(CdiRegistryTest, AChangeTakesEffectAtOnce) {
  Ask("a");
  EXPECT_THAT(Refusal(), HasSubstr("CDI_devices[0].name: no CDI device v.example/c=a"));
  for (const char* value : {"1", "2", "3"}) {
    WriteDevices("dynamic/a.yaml", value, {"a"});
    EXPECT_THAT(Env(), testing::Contains(std::string("DEVICE_a=") + value));
  }
  std::filesystem::remove(top_ + "/dynamic/a.yaml");
  Refusal();
}

TEST_F(CdiRegistryTest, ABadFileIsLeftOutAndLoggedOnceAndTheRestWorks) {
  WriteDevices("static/good.yaml", "1", {"a"});
  Write("static/bad.json", "{\"cdiVersion\": \"9.0.0\"}");
  Write("static/other.txt", "not a specification");
  Ask("a");
  testing::internal::CaptureStderr();
  EXPECT_THAT(Env(), testing::SizeIs(2));
  EXPECT_THAT(Env(), testing::SizeIs(2));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("static/bad.json"));
  EXPECT_EQ(log.find("bad.json"), log.rfind("bad.json")) << log;
  EXPECT_THAT(log, testing::Not(HasSubstr("other.txt")));
}

TEST_F(CdiRegistryTest, AnnotationsAskTooAndNothingComesTwice) {
  WriteDevices("static/a.yaml", "1", {"a", "b", "c"});
  Ask("b");
  (*config_.mutable_annotations())["cdi.k8s.io/z"] = "v.example/c=c";
  (*config_.mutable_annotations())["cdi.k8s.io/plugin"] = "v.example/c=a,v.example/c=b";
  (*config_.mutable_annotations())["other"] = "v.example/c=none";
  EXPECT_THAT(Env(), ElementsAre("SPEC=1", "DEVICE_b=1", "DEVICE_a=1", "DEVICE_c=1"));
}

TEST_F(CdiRegistryTest, BadNamesAreRefusedByField) {
  config_.add_cdi_devices()->set_name("v.example/c=a");
  config_.add_cdi_devices()->set_name("gpu0");
  EXPECT_THAT(Refusal(), HasSubstr("CDI_devices[1].name: \"gpu0\""));
  config_.Clear();
  for (const char* value : {"", "gpu0", "v.example/c=a,", "v.example/c=a, v.example/c=b"}) {
    (*config_.mutable_annotations())["cdi.k8s.io/x"] = value;
    EXPECT_THAT(Refusal(), HasSubstr("annotations[\"cdi.k8s.io/x\"]"));
  }
}

TEST_F(CdiRegistryTest, ADeviceThatTheHostOrTheRuntimeLacksIsRefusedByField) {
  Write("static/a.json", R"({"cdiVersion": "1.1.0", "kind": "v.example/c", "devices": [
      {"name": "gone", "containerEdits": {"deviceNodes": [{"path": "/dev/crisp-gone"}]}},
      {"name": "net", "containerEdits": {"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}}]})");
  Ask("gone");
  EXPECT_THAT(Refusal(absl::StatusCode::kFailedPrecondition),
              testing::AllOf(HasSubstr("CDI_devices[0].name"), HasSubstr("/dev/crisp-gone")));
  config_.Clear();
  Ask("net");
  EXPECT_THAT(Refusal(absl::StatusCode::kFailedPrecondition), HasSubstr("netDevices"));
  handler_.net_devices = true;
  EXPECT_TRUE(registry_->Resolve(config_, handler_).ok());
}

TEST_F(CdiRegistryTest, NothingIsReadWithoutARequest) {
  Write("static/bad.json", "");
  testing::internal::CaptureStderr();
  EXPECT_THAT(Env(), IsEmpty());
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace runtimeservice
