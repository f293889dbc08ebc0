// A puller over stores of its own, whose workers are crisp-fake-pull-worker.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "imageservice/puller.h"
#include "imageservice/testing/eventually.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice::testing {

class PullerFixture : public ::testing::Test {
 protected:
  // `worker_path` is crisp-fake-pull-worker.
  explicit PullerFixture(std::string worker_path)
      : worker_path_(std::move(worker_path)),
        launcher_("", ""),
        lane_(std::make_unique<base::Lane>("gc", 2, 100)) {
    const std::string root = directory_.path();
    trash_ = Trash::Open(root + "/trash", lane_.get()).value();
    layers_ = LayerStore::Open(root, "boot", trash_.get(), &problems_).value();
    images_ = ImageStore::Open(root, "boot", layers_.get(), &problems_).value();
    EXPECT_TRUE(base::MakeDirectories(root + "/staging", 0700).ok());
    EXPECT_EQ(mkfifo((root + "/gate").c_str(), 0600), 0);
    puller_ = MakePuller(Environment(), 16);
  }
  ~PullerFixture() override {
    puller_.reset();
    lane_.reset();
  }

  PullEnvironment Environment() {
    PullEnvironment environment;
    environment.worker_path = worker_path_;
    environment.worker_environment = {"FAKE_DIR=" + directory_.path()};
    environment.staging_directory = directory_ / "staging";
    environment.launcher = &launcher_;
    environment.layers = layers_.get();
    environment.images = images_.get();
    environment.trash = trash_.get();
    return environment;
  }
  std::unique_ptr<Puller> MakePuller(PullEnvironment environment, int max_parallel_pulls) {
    return std::make_unique<Puller>(std::move(environment), max_parallel_pulls,
                                    [this](const ImagePtr&) { ++commits_; });
  }

  static PullPlan Plan(const std::string& name, const std::string& password = "") {
    const Reference reference = Reference::Parse(name).value();
    worker::Endpoint endpoint;
    endpoint.base_url = "https://" + reference.domain();
    endpoint.repository = reference.path();
    endpoint.credentials.password = password;
    return {.reference = reference.str(), .sources = {{.name = reference, .endpoint = endpoint}}};
  }

  absl::StatusOr<ImagePtr> Pull(const std::string& name,
                                const base::Context& ctx = base::Context()) {
    return puller_->Pull(ctx, Plan(name));
  }

  // What the workers noted, without the tokens they were given.
  std::vector<std::string> Notes() const {
    std::vector<std::string> notes;
    const absl::StatusOr<std::string> text = base::ReadFile(directory_ / "starts");
    if (text.ok()) {
      for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
        notes.push_back(std::string(line.substr(0, line.find(' '))));
      }
    }
    return notes;
  }
  bool Noted(const std::string& note, int times = 1) const {
    const std::vector<std::string> notes = Notes();
    return std::count(notes.begin(), notes.end(), note) >= times;
  }

  // Lets workers that wait at the gate go on, those that come later too.
  void OpenGate() { gate_ = base::Open(directory_ / "gate", O_RDWR).value(); }

  std::vector<std::string> Names(const std::string& folder) const {
    return base::ListDirectory(directory_ / folder).value();
  }
  void ExpectNothingLeft() const {
    EXPECT_THAT(Names("staging"), ::testing::IsEmpty());
    EXPECT_THAT(Names("layers"), ::testing::IsEmpty());
    EXPECT_THAT(Names("records/layers"), ::testing::IsEmpty());
    EXPECT_THAT(images_->List(), ::testing::IsEmpty());
  }

  const std::string worker_path_;
  TempDirectory directory_;
  base::Launcher launcher_;
  std::unique_ptr<base::Lane> lane_;
  Problems problems_;
  std::unique_ptr<Trash> trash_;
  std::unique_ptr<LayerStore> layers_;
  std::unique_ptr<ImageStore> images_;
  std::unique_ptr<Puller> puller_;
  std::atomic<int> commits_ = 0;
  base::UniqueFd gate_;
};

}  // namespace imageservice::testing
