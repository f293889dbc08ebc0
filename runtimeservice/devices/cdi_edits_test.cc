#include "runtimeservice/devices/cdi_edits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "runtimeservice/spec/spec_test_input.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;
using ::testing::HasSubstr;

class CdiEditsTest : public ::testing::Test, protected TestInput {
 protected:
  OrderedJson Edited(const CdiEdits& edits) const {
    OrderedJson spec = Spec();
    ApplyCdiEdits(edits, &spec);
    return spec;
  }
};

TEST_F(CdiEditsTest, NoEditsChangeNothing) { EXPECT_EQ(Edited({}), Spec()); }

TEST_F(CdiEditsTest, VariablesReplaceOrAreAppended) {
  cri::KeyValue* variable = container.add_envs();
  variable->set_key("KEPT");
  variable->set_value("1");
  variable = container.add_envs();
  variable->set_key("GPU");
  variable->set_value("old");
  const OrderedJson env = At(Edited({.env = {"GPU=new=2", "MORE="}}), "/process/env");
  EXPECT_THAT(env, testing::Contains("KEPT=1"));
  EXPECT_THAT(env, testing::Contains("GPU=new=2"));
  EXPECT_THAT(env, testing::Not(testing::Contains("GPU=old")));
  EXPECT_EQ(env.back(), "MORE=");
}

TEST_F(CdiEditsTest, ADeviceReplacesOneOfItsPathAndIsAllowed) {
  devices.push_back({.path = "/dev/gpu", .major = 1, .minor = 3});
  user = {1000, 2000, {2000}};
  const CdiEdits edits = {
      .device_nodes = {
          {.path = "/dev/gpu", .type = "c", .major = 195, .minor = 2, .file_mode = 0666},
          {.path = "/dev/disk", .type = "b", .major = 8, .minor = 0, .uid = 5, .permissions = "r"},
          {.path = "/dev/raw", .type = "u", .major = 9, .permissions = "none"},
          {.path = "/dev/pipe", .type = "p", .gid = 0}}};
  const OrderedJson spec = Edited(edits);
  EXPECT_EQ(At(spec, "/linux/devices"), OrderedJson::parse(R"([
      {"path": "/dev/gpu", "type": "c", "major": 195, "minor": 2, "fileMode": 438, "uid": 1000, "gid": 2000},
      {"path": "/dev/disk", "type": "b", "major": 8, "minor": 0, "uid": 5, "gid": 2000},
      {"path": "/dev/raw", "type": "u", "major": 9, "minor": 0, "uid": 1000, "gid": 2000},
      {"path": "/dev/pipe", "type": "p", "uid": 1000, "gid": 0}])"));
  const OrderedJson rules = At(spec, "/linux/resources/devices");
  ASSERT_EQ(rules.size(), 4);
  EXPECT_EQ(rules[2],
            OrderedJson::parse(
                R"({"allow": true, "type": "c", "major": 195, "minor": 2, "access": "rwm"})"));
  EXPECT_EQ(
      rules[3],
      OrderedJson::parse(R"({"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"})"));
}

TEST_F(CdiEditsTest, RootsDevicesKeepTheRuntimesOwner) {
  const OrderedJson spec = Edited({.device_nodes = {{.path = "/dev/a", .type = "c", .major = 1}}});
  EXPECT_FALSE(At(spec, "/linux/devices/0").contains("uid"));
}

TEST_F(CdiEditsTest, MountsReplaceAndOuterOnesComeFirst) {
  AddMount("/host/a", "/data/deep/a");
  AddMount("/host/b", "/data");
  const OrderedJson spec = Edited(
      {.mounts = {{.host_path = "/lib/gpu", .container_path = "/data/deep/a", .options = {"ro"}},
                  {.host_path = "tmpfs", .container_path = "/x", .type = "tmpfs"}}});
  std::vector<std::string> destinations;
  int64_t depth = 0;
  for (const OrderedJson& mount : spec.at("mounts")) {
    const std::string destination = mount.at("destination");
    destinations.push_back(destination);
    const int64_t own = std::count(destination.begin(), destination.end(), '/');
    EXPECT_GE(own, depth) << destination;
    depth = own;
    if (destination == "/data/deep/a") {
      EXPECT_EQ(mount, OrderedJson::parse(R"({"destination": "/data/deep/a", "type": "bind",
                                              "source": "/lib/gpu", "options": ["ro", "bind"]})"));
    }
    if (destination == "/x") {
      EXPECT_EQ(mount.at("options"), OrderedJson::array());
    }
  }
  EXPECT_EQ(std::count(destinations.begin(), destinations.end(), "/data/deep/a"), 1);
  EXPECT_THAT(destinations, testing::Contains("/proc"));
}

TEST_F(CdiEditsTest, BindMountsAreMappedInAUserNamespace) {
  OrderedJson spec = Spec();
  spec["linux"]["namespaces"].push_back({{"type", "user"}});
  ApplyCdiEdits(
      {.mounts = {{.host_path = "/a", .container_path = "/a"},
                  {.host_path = "/b", .container_path = "/b", .options = {"rbind"}},
                  {.host_path = "/c", .container_path = "/c", .options = {"bind", "idmap"}},
                  {.host_path = "d", .container_path = "/d", .type = "tmpfs"}}},
      &spec);
  const auto options = [&](const char* destination) {
    for (const OrderedJson& mount : spec.at("mounts")) {
      if (mount.at("destination") == destination) {
        return mount.at("options");
      }
    }
    return OrderedJson();
  };
  EXPECT_EQ(options("/a"), OrderedJson({"bind", "idmap"}));
  EXPECT_EQ(options("/b"), OrderedJson({"rbind", "ridmap"}));
  EXPECT_EQ(options("/c"), OrderedJson({"bind", "idmap"}));
  EXPECT_EQ(options("/d"), OrderedJson::array());
}

TEST_F(CdiEditsTest, HooksGroupsCachesAndInterfacesReachTheirPlaces) {
  const OrderedJson spec =
      Edited({.net_devices = {{"eth9", "net0"}},
              .hooks = {{"createContainer",
                         {.path = "/a", .args = {"a", "b"}, .env = {"C=d"}, .timeout_seconds = 3}},
                        {"prestart", {.path = "/p"}},
                        {"createContainer", {.path = "/b"}}},
              .intel_rdt = CdiIntelRdt{.clos_id = "x", .l3_cache_schema = "L3:0=f"},
              .additional_gids = {0, 44, 44}});
  EXPECT_EQ(spec.at("hooks"), OrderedJson::parse(R"({
      "createContainer": [{"path": "/a", "args": ["a", "b"], "env": ["C=d"], "timeout": 3}, {"path": "/b"}],
      "prestart": [{"path": "/p"}]})"));
  EXPECT_EQ(At(spec, "/linux/netDevices"), OrderedJson::parse(R"({"eth9": {"name": "net0"}})"));
  EXPECT_EQ(At(spec, "/linux/intelRdt"),
            OrderedJson::parse(R"({"closID": "x", "l3CacheSchema": "L3:0=f"})"));
  EXPECT_EQ(At(spec, "/process/user/additionalGids"), OrderedJson::parse("[0, 44]"));
}

TEST_F(CdiEditsTest, WhatTheRuntimeWouldIgnoreIsRefused) {
  const auto refused = [this](const CdiEdits& edits, const char* what) {
    const absl::Status status = CheckCdiEdits(edits, handler);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  };
  const CdiEdits net = {.net_devices = {{"a", "b"}}};
  const CdiEdits rdt = {.intel_rdt = CdiIntelRdt{.schemata = {"x"}}};
  refused(net, "netDevices");
  refused(rdt, "intelRdt");
  EXPECT_TRUE(CheckCdiEdits({.intel_rdt = CdiIntelRdt{.clos_id = "a"}}, handler).ok());
  handler.net_devices = true;
  handler.intel_rdt_schemata = true;
  EXPECT_TRUE(CheckCdiEdits(net, handler).ok());
  EXPECT_TRUE(CheckCdiEdits(rdt, handler).ok());
}

TEST(CompleteDeviceNodesTest, WhatIsMissingIsTheHosts) {
  CdiEdits edits = {
      .device_nodes = {{.path = "/dev/null"},
                       {.path = "/dev/x", .host_path = "/dev/zero", .file_mode = 0600},
                       {.path = "/dev/none", .type = "c", .major = 77, .minor = 7}}};
  ASSERT_TRUE(CompleteDeviceNodes(&edits).ok());
  EXPECT_EQ(edits.device_nodes[0].type, "c");
  EXPECT_EQ(edits.device_nodes[0].major, 1);
  EXPECT_EQ(edits.device_nodes[0].minor, 3);
  EXPECT_EQ(edits.device_nodes[0].file_mode, 0666);
  EXPECT_EQ(edits.device_nodes[1].minor, 5);
  EXPECT_EQ(edits.device_nodes[1].file_mode, 0600);
  EXPECT_EQ(edits.device_nodes[2].minor, 7);
  EXPECT_FALSE(edits.device_nodes[2].file_mode.has_value());
}

TEST(CompleteDeviceNodesTest, AFifoHasNoNumbers) {
  char folder[] = "/tmp/crisp-cdi-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::string fifo = std::string(folder) + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0640), 0);
  CdiEdits edits = {.device_nodes = {{.path = fifo}}};
  EXPECT_TRUE(CompleteDeviceNodes(&edits).ok());
  EXPECT_EQ(edits.device_nodes[0].type, "p");
  EXPECT_EQ(edits.device_nodes[0].major, 0);
  std::filesystem::remove_all(folder);
}

TEST(CompleteDeviceNodesTest, WhatIsNotThereIsRefusedByPath) {
  const auto refused = [](const CdiDeviceNode& node, const char* what) {
    CdiEdits edits = {.device_nodes = {node}};
    const absl::Status status = CompleteDeviceNodes(&edits);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  };
  refused({.path = "/dev/crisp-none"}, "/dev/crisp-none");
  refused({.path = "/dev/a", .host_path = "/etc/passwd"}, "/etc/passwd is not a device");
  refused({.path = "/dev/null", .type = "b"}, "not a device of type b");
}

}  // namespace
}  // namespace runtimeservice
