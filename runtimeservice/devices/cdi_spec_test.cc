#include "runtimeservice/devices/cdi_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace runtimeservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kWhole[] = R"(
cdiVersion: "1.1.0"
kind: vendor.example/gpu.model
annotations: {made-by: test}
containerEdits:
  env: [ALL=1]
devices:
  - name: 0
    annotations: {index: 0}
    containerEdits:
      env: [ONE=1, TWO=]
      deviceNodes:
        - path: /dev/gpu0
          hostPath: /dev/host-gpu0
          type: c
          major: 195
          minor: 1
          fileMode: 0660
          permissions: rw
          uid: 5
          gid: 6
      netDevices:
        - {hostInterfaceName: eth9, name: net0}
      mounts:
        - hostPath: /lib/gpu
          containerPath: /usr/lib/gpu
          type: bind
          options: [ro, nosuid]
      hooks:
        - hookName: createContainer
          path: /usr/bin/hook
          args: [hook, now]
          env: [A=b]
          timeout: 5
      intelRdt:
        closID: group
        l3CacheSchema: "L3:0=f"
        memBwSchema: "MB:0=20"
        schemata: ["L2:0=f"]
        enableMonitoring: true
      additionalGids: [44, 0]
  - name: all
    containerEdits: {env: [ALL_OF_THEM=1]}
)";

TEST(CdiSpecTest, EveryMemberIsRead) {
  const absl::StatusOr<CdiSpec> spec = ParseCdiSpec(kWhole, CdiFormat::kYaml);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->kind, "vendor.example/gpu.model");
  EXPECT_THAT(spec->edits.env, ElementsAre("ALL=1"));
  ASSERT_EQ(spec->devices.size(), 2);
  EXPECT_EQ(spec->devices[0].name, "0");
  EXPECT_EQ(spec->devices[1].name, "all");
  const CdiEdits& edits = spec->devices[0].edits;
  EXPECT_THAT(edits.env, ElementsAre("ONE=1", "TWO="));
  const CdiDeviceNode& node = edits.device_nodes.at(0);
  EXPECT_EQ(node.path + node.host_path + node.type + node.permissions,
            "/dev/gpu0/dev/host-gpu0crw");
  EXPECT_EQ(node.major, 195);
  EXPECT_EQ(node.minor, 1);
  EXPECT_EQ(node.file_mode, 0660);
  EXPECT_EQ(node.uid, 5);
  EXPECT_EQ(node.gid, 6);
  EXPECT_EQ(edits.net_devices.at(0).host_interface, "eth9");
  EXPECT_EQ(edits.net_devices.at(0).name, "net0");
  const CdiMount& mount = edits.mounts.at(0);
  EXPECT_EQ(mount.host_path + mount.container_path + mount.type, "/lib/gpu/usr/lib/gpubind");
  EXPECT_THAT(mount.options, ElementsAre("ro", "nosuid"));
  const CdiHook& hook = edits.hooks.at(0);
  EXPECT_EQ(hook.stage + hook.hook.path, "createContainer/usr/bin/hook");
  EXPECT_THAT(hook.hook.args, ElementsAre("hook", "now"));
  EXPECT_THAT(hook.hook.env, ElementsAre("A=b"));
  EXPECT_EQ(hook.hook.timeout_seconds, 5);
  EXPECT_EQ(edits.intel_rdt->clos_id, "group");
  EXPECT_TRUE(edits.intel_rdt->enable_monitoring);
  EXPECT_THAT(edits.additional_gids, ElementsAre(44, 0));
}

// A specification of `version` with one device, whose edits are `edits`.
std::string With(std::string_view version, std::string_view edits,
                 std::string_view name = "device") {
  return base::StrCat(R"({"cdiVersion": ")", version,
                      R"(", "kind": "vendor.example/class", "devices": [{"name": ")", name,
                      R"(", "containerEdits": )", edits, "}]}");
}

std::string Refusal(std::string_view text) {
  const absl::StatusOr<CdiSpec> spec = ParseCdiSpec(text, CdiFormat::kJson);
  EXPECT_TRUE(absl::IsInvalidArgument(spec.status())) << text << "\n" << spec.status();
  return std::string(spec.status().message());
}

TEST(CdiSpecTest, AMemberNeedsTheVersionThatBroughtIt) {
  struct Case {
    const char* before;
    const char* since;
    const char* edits;
  };
  const Case cases[] = {
      {"0.3.0", "0.4.0",
       R"({"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "bind"}]})"},
      {"0.4.0", "0.5.0", R"({"deviceNodes": [{"path": "/dev/a", "hostPath": "/dev/b"}]})"},
      {"0.6.0", "0.7.0", R"({"intelRdt": {"closID": "a"}})"},
      {"0.6.0", "0.7.0", R"({"additionalGids": [5]})"},
      {"0.6.0", "0.8.0", R"({"additionalGIDs": [5]})"},
      {"1.0.0", "1.1.0", R"({"netDevices": [{"hostInterfaceName": "a", "name": "b"}]})"},
      {"1.0.0", "1.1.0", R"({"intelRdt": {"enableMonitoring": true}})"},
      {"0.2.0", "0.3.0", R"({"env": ["A=b"]})"},
      {"1.2.0", "v1.0.0", R"({"env": ["A=b"]})"},
      {"", "1.1.0", R"({"env": ["A=b"]})"},
  };
  for (const Case& one : cases) {
    EXPECT_THAT(Refusal(With(one.before, one.edits)), HasSubstr("cdiVersion")) << one.edits;
    EXPECT_TRUE(ParseCdiSpec(With(one.since, one.edits), CdiFormat::kJson).ok()) << one.edits;
  }
  EXPECT_THAT(Refusal(With("0.4.0", R"({"env": ["A=b"]})", "0")), HasSubstr("a digit"));
  EXPECT_TRUE(ParseCdiSpec(With("0.5.0", R"({"env": ["A=b"]})", "0"), CdiFormat::kJson).ok());
}

TEST(CdiSpecTest, WhatIsNoSpecificationIsRefusedWithItsPlace) {
  EXPECT_THAT(Refusal("[]"), HasSubstr("an object"));
  EXPECT_THAT(Refusal(R"({"cdiVersion": "0.5.0", "kind": "v/c", "devices": [], "extra": 1})"),
              HasSubstr("unknown member \"extra\""));
  EXPECT_THAT(Refusal(R"({"cdiVersion": "0.5.0", "kind": "v/c", "devices": []})"),
              HasSubstr("\"devices\""));
  for (const char* kind :
       {"", "vendor", "/class", "vendor/", "1vendor/class", "vendor/cl ass", "v/c/d"}) {
    EXPECT_THAT(
        Refusal(base::StrCat(R"({"cdiVersion": "0.5.0", "kind": ")", kind, R"(", "devices": []})")),
        HasSubstr("\"kind\""));
  }
  const std::pair<const char*, const char*> cases[] = {
      {"{}", "devices[0]: containerEdits: there is none"},
      {R"({"env": ["NOVALUE"]})", "devices[0]: containerEdits: \"env\""},
      {R"({"mounts": [{"hostPath": "/a", "containerPath": "b"}]})", "mounts[0]: \"containerPath\""},
      {R"({"mounts": [{"containerPath": "/b"}]})", "mounts[0]: \"hostPath\""},
      {R"({"mounts": [{"hostPath": "/a", "containerPath": "/b", "mode": 1}]})", "\"mode\""},
      {R"({"mounts": {}})", "\"mounts\" is not a list"},
      {R"({"deviceNodes": [{"path": "/dev/a", "type": "x"}]})", "deviceNodes[0]: \"type\""},
      {R"({"deviceNodes": [{"path": ""}]})", "deviceNodes[0]: \"path\""},
      {R"({"deviceNodes": [{"path": "/dev/a", "permissions": "x"}]})", "\"permissions\""},
      {R"({"deviceNodes": [{"path": "/dev/a", "major": -1}]})", "\"major\""},
      {R"({"deviceNodes": [{"path": "/dev/a", "uid": 4294967296}]})", "\"uid\""},
      {R"({"hooks": [{"hookName": "never", "path": "/a"}]})", "hooks[0]: \"hookName\""},
      {R"({"hooks": [{"hookName": "poststop", "path": "a"}]})", "hooks[0]: \"path\""},
      {R"({"hooks": [{"hookName": "poststop", "path": "/a", "timeout": 0}]})", "\"timeout\""},
      {R"({"intelRdt": {"closID": "../up"}})", "intelRdt: \"closID\""},
      {R"({"additionalGids": ["x"]})", "additionalGids[0]"},
      {R"({"netDevices": [{"hostInterfaceName": "a", "name": ""}]})", "netDevices[0]"},
      {R"({"netDevices": [{"hostInterfaceName": "a", "name": "b"},
                          {"hostInterfaceName": "c", "name": "b"}]})",
       "is there twice"},
  };
  for (const auto& [edits, place] : cases) {
    EXPECT_THAT(Refusal(With("1.1.0", edits)), HasSubstr(place));
  }
  for (const char* name : {"", "-a", "a-", "a b", "a=b"}) {
    EXPECT_THAT(Refusal(With("1.1.0", R"({"env": ["A=b"]})", name)), HasSubstr("\"name\"")) << name;
  }
  EXPECT_THAT(Refusal(R"({"cdiVersion": "0.5.0", "kind": "v/c", "kind": "v/d", "devices": []})"),
              HasSubstr("\"kind\" is there twice"));
  EXPECT_THAT(Refusal(R"({"cdiVersion": "0.5.0", "kind": "v/c", "devices": [
                          {"name": "a", "containerEdits": {"env": ["A=b"]}},
                          {"name": "a", "containerEdits": {"env": ["A=b"]}}]})"),
              HasSubstr("device \"a\" is there twice"));
}

TEST(CdiSpecTest, FullNamesHaveVendorClassAndName) {
  for (const char* good : {"v/c=n", "vendor.com/gpu=0", "Vendor-1.x/cl_ass=a:b.c-d_e"}) {
    EXPECT_TRUE(CheckCdiDeviceName(good).ok()) << good;
  }
  for (const char* bad :
       {"", "gpu", "v/c", "v/c=", "v=n", "/c=n", "v/c=n=m", "v/c=-n", "v/c=n,v/c=m"}) {
    EXPECT_THAT(std::string(CheckCdiDeviceName(bad).message()), HasSubstr(bad)) << bad;
  }
}

TEST(CdiSpecTest, LaterEditsAreAppended) {
  CdiEdits edits;
  EXPECT_TRUE(edits.empty());
  edits.Append({.env = {"A=1"}, .intel_rdt = CdiIntelRdt{.clos_id = "one"}});
  edits.Append({.env = {"B=2"}, .additional_gids = {7}});
  EXPECT_THAT(edits.env, ElementsAre("A=1", "B=2"));
  EXPECT_EQ(edits.intel_rdt->clos_id, "one");
  EXPECT_THAT(edits.additional_gids, ElementsAre(7));
  EXPECT_THAT(edits.mounts, IsEmpty());
}

}  // namespace
}  // namespace runtimeservice
