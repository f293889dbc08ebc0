#include "imageservice/image_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/record_store.h"
#include "base/strings.h"
#include "imageservice/testing/fake_image.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

std::string IdOf(const std::string& letters) { return testing::MakeFakeImage(letters).id; }

class ImageServiceTest : public ::testing::Test {
 protected:
  ImageServiceTest() : launcher_("", "") { Start(); }

  void Start() {
    service_.reset();
    ImageConfig config;
    config.root = directory_ / "root";
    config.run_root = directory_ / "run";
    config.worker_path = CRISP_FAKE_PULL_WORKER;
    config.worker_environment = {"FAKE_DIR=" + directory_.path()};
    config.registries.files.paths = {directory_ / "registries.conf"};
    config.registries.policy_file = directory_ / "policy.json";
    config.pinned_images = pinned_;
    absl::StatusOr<std::unique_ptr<ImageService>> service = ImageService::Open(config, &launcher_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
    service_->ReleaseUnused();
  }

  absl::StatusOr<std::string> Pull(const std::string& name) {
    cri::PullImageRequest request;
    request.mutable_image()->set_image(name);
    const auto response = service_->PullImage(base::Context(), request);
    if (!response.ok()) {
      return response.status();
    }
    return response->image_ref();
  }

  cri::Image Status(const std::string& name) {
    cri::ImageStatusRequest request;
    request.mutable_image()->set_image(name);
    const auto response = service_->ImageStatus(base::Context(), request);
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->image() : cri::Image();
  }

  absl::Status Remove(const std::string& name) {
    cri::RemoveImageRequest request;
    request.mutable_image()->set_image(name);
    return service_->RemoveImage(base::Context::Detached(absl::Seconds(20)), request).status();
  }

  std::vector<cri::Image> List(const std::string& filter = "") {
    cri::ListImagesRequest request;
    if (!filter.empty()) {
      request.mutable_filter()->mutable_image()->set_image(filter);
    }
    const auto response = service_->ListImages(base::Context(), request);
    EXPECT_TRUE(response.ok()) << response.status();
    return {response->images().begin(), response->images().end()};
  }

  std::vector<std::string> Names(const std::string& folder) {
    return base::ListDirectory(directory_ / ("root/" + folder)).value();
  }

  testing::TempDirectory directory_;
  base::Launcher launcher_;
  std::vector<std::string> pinned_;
  std::unique_ptr<ImageService> service_;
};

TEST_F(ImageServiceTest, APulledImageIsListedByItsNames) {
  const absl::StatusOr<std::string> id = Pull("quay.io/app/web:ab.ok");
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(*id, IdOf("ab"));
  ASSERT_THAT(List(), SizeIs(1));
  const cri::Image image = List().front();
  EXPECT_EQ(image.id(), IdOf("ab"));
  EXPECT_THAT(image.repo_tags(), ElementsAre("quay.io/app/web:ab.ok"));
  const testing::FakeImage fake = testing::MakeFakeImage("ab");
  EXPECT_THAT(image.repo_digests(), ElementsAre("quay.io/app/web@" + fake.index_digest,
                                                "quay.io/app/web@" + fake.manifest_digest));
  EXPECT_GT(image.size(), 0u);
  EXPECT_EQ(image.uid().value(), 1002);
  EXPECT_FALSE(image.pinned());
}

TEST_F(ImageServiceTest, EveryNameOfAnImageFindsIt) {
  ASSERT_TRUE(Pull("docker.io/library/box:ab.ok").ok());
  const std::string id = IdOf("ab");
  for (const std::string& name :
       {std::string("docker.io/library/box:ab.ok"), std::string("box:ab.ok"), id, "sha256:" + id,
        id.substr(0, 12), "box@" + testing::MakeFakeImage("ab").manifest_digest,
        "docker.io/library/box@" + testing::MakeFakeImage("ab").index_digest}) {
    EXPECT_EQ(Status(name).id(), id) << name;
    EXPECT_THAT(List(name), SizeIs(1)) << name;
  }
}

TEST_F(ImageServiceTest, AnUnknownImageIsNoError) {
  EXPECT_EQ(Status("quay.io/none").id(), "");
  EXPECT_EQ(Status(std::string(64, 'e')).id(), "");
  EXPECT_THAT(List("quay.io/none"), IsEmpty());
  EXPECT_THAT(List("Not A Name"), IsEmpty());
  EXPECT_TRUE(Remove("quay.io/none").ok());
}

TEST_F(ImageServiceTest, ARequestWithoutANameIsInvalid) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      service_->ImageStatus(base::Context(), cri::ImageStatusRequest()).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      service_->PullImage(base::Context(), cri::PullImageRequest()).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      service_->RemoveImage(base::Context(), cri::RemoveImageRequest()).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Pull(IdOf("a")).status()));
}

TEST_F(ImageServiceTest, VerboseStatusShowsTheConfig) {
  ASSERT_TRUE(Pull("quay.io/a:ab.ok").ok());
  cri::ImageStatusRequest request;
  request.mutable_image()->set_image("quay.io/a:ab.ok");
  request.set_verbose(true);
  const auto response = service_->ImageStatus(base::Context(), request);
  ASSERT_TRUE(response.ok());
  EXPECT_THAT(response->info().at("info"), HasSubstr("\"imageSpec\":{\"config\":"));
}

TEST_F(ImageServiceTest, OnlyAnUnreachableRegistryIsReportedAsSuch) {
  const absl::Status unreachable = Pull("quay.io/a:a.unreachable").status();
  EXPECT_TRUE(absl::IsUnavailable(unreachable));
  EXPECT_THAT(std::string(unreachable.message()),
              StartsWith("RegistryUnavailable: pull it: connection refused"));
  const absl::Status denied = Pull("quay.io/a:a.denied").status();
  EXPECT_TRUE(absl::IsPermissionDenied(denied));
  EXPECT_THAT(std::string(denied.message()), StartsWith("pull it: denied"));
}

TEST_F(ImageServiceTest, OneImageUnderSeveralTagsIsOneImage) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  ASSERT_TRUE(Pull("quay.io/two:ab.ok").ok());
  ASSERT_THAT(List(), SizeIs(1));
  EXPECT_THAT(List().front().repo_tags(), ElementsAre("quay.io/one:ab.ok", "quay.io/two:ab.ok"));
}

TEST_F(ImageServiceTest, RemovalByAnyNameRemovesAllAndTheLayers) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  ASSERT_TRUE(Pull("quay.io/two:ab.ok").ok());
  ASSERT_TRUE(Remove("quay.io/two:ab.ok").ok());
  EXPECT_THAT(List(), IsEmpty());
  EXPECT_THAT(Names("layers"), IsEmpty());
  EXPECT_THAT(Names("trash"), IsEmpty()) << "the unlink is waited for";
  EXPECT_THAT(Names("records/layers"), IsEmpty());
}

TEST_F(ImageServiceTest, SimultaneousRemovalsAllSucceedAndItIsGoneAsEachReturns) {
  ASSERT_TRUE(Pull("quay.io/one:abc.ok").ok());
  std::vector<std::thread> threads;
  for (int i = 0; i < 5; ++i) {
    threads.emplace_back([&] {
      EXPECT_TRUE(Remove(IdOf("abc")).ok());
      EXPECT_THAT(List(), IsEmpty());
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

TEST_F(ImageServiceTest, LayersThatAnotherImageNeedsStay) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  ASSERT_TRUE(Pull("quay.io/two:ac.ok").ok());
  EXPECT_THAT(Names("layers"), SizeIs(3));
  ASSERT_TRUE(Remove("quay.io/one:ab.ok").ok());
  EXPECT_THAT(Names("layers"), SizeIs(2));
}

TEST_F(ImageServiceTest, AContainersLayersOutliveItsImage) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  const absl::StatusOr<ContainerImage> image = service_->Acquire("quay.io/one:ab.ok", "c1");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->id, IdOf("ab"));
  EXPECT_EQ(image->ref, "quay.io/one@" + testing::MakeFakeImage("ab").index_digest);
  EXPECT_EQ(image->name, "quay.io/one:ab.ok");
  EXPECT_THAT(image->chain_ids, SizeIs(2));
  EXPECT_THAT(image->config.cmd, ElementsAre("/bin/sh"));
  ASSERT_TRUE(Remove("quay.io/one:ab.ok").ok());
  EXPECT_THAT(Names("layers"), SizeIs(2));
  service_->Release("c1");
  EXPECT_THAT(Names("layers"), IsEmpty());
  service_->Release("c1");
}

TEST_F(ImageServiceTest, PinsOfContainersAreKeptOverARestart) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  const std::vector<std::string> chain_ids = service_->Acquire(IdOf("ab"), "c1")->chain_ids;
  ASSERT_TRUE(Remove(IdOf("ab")).ok());
  service_.reset();
  ImageConfig config;
  config.root = directory_ / "root";
  auto reopened = ImageService::Open(config, &launcher_);
  ASSERT_TRUE(reopened.ok());
  (*reopened)->Pin("c1", chain_ids);
  (*reopened)->ReleaseUnused();
  EXPECT_THAT(Names("layers"), SizeIs(2));
}

TEST_F(ImageServiceTest, AcquiringAnAbsentImageIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(service_->Acquire("quay.io/none", "c1").status()));
}

TEST_F(ImageServiceTest, ImageFsInfoCountsTheLayers) {
  ASSERT_TRUE(Pull("quay.io/one:abc.ok").ok());
  const auto info = service_->ImageFsInfo(base::Context(), cri::ImageFsInfoRequest());
  ASSERT_TRUE(info.ok());
  ASSERT_EQ(info->image_filesystems_size(), 1);
  ASSERT_EQ(info->container_filesystems_size(), 1);
  EXPECT_EQ(info->image_filesystems(0).fs_id().mountpoint(), directory_ / "root");
  EXPECT_EQ(info->image_filesystems(0).used_bytes().value(), 3 * 4096u);
  EXPECT_EQ(info->image_filesystems(0).inodes_used().value(), 6u);
  EXPECT_GT(info->image_filesystems(0).timestamp(), 0);
}

TEST_F(ImageServiceTest, AnyReferenceRemovesTheImageWithAllItsTags) {
  const testing::FakeImage fake = testing::MakeFakeImage("ab");
  for (const std::string& name :
       {fake.id, "sha256:" + fake.id, fake.id.substr(0, 7), std::string("quay.io/other:ab.ok"),
        std::string("box:ab.ok"), "box@" + fake.manifest_digest, "box@" + fake.index_digest}) {
    ASSERT_TRUE(Pull("docker.io/library/box:ab.ok").ok());
    ASSERT_TRUE(Pull("quay.io/other:ab.ok").ok());
    ASSERT_THAT(List(), SizeIs(1));
    EXPECT_TRUE(Remove(name).ok()) << name;
    EXPECT_THAT(List(), IsEmpty()) << name;
    EXPECT_TRUE(Remove(name).ok()) << name;
  }
}

TEST_F(ImageServiceTest, UsersAreNumbersOrNames) {
  const auto user = [this](const std::string& text) {
    crisp::state::ImageRecord record;
    record.set_id(std::string(64, '7'));
    record.mutable_process()->set_user(text);
    service_.reset();
    const auto records =
        base::RecordStore::Open(directory_ / "root/records/images", base::Durability::kVolatile);
    EXPECT_TRUE(records->Put(record.id(), record.SerializeAsString()).ok());
    Start();
    const cri::Image image = Status(record.id());
    return image.has_uid() ? base::StrCat("uid ", image.uid().value())
                           : base::StrCat("name ", image.username());
  };
  EXPECT_EQ(user("1000"), "uid 1000");
  EXPECT_EQ(user("1000:2000"), "uid 1000");
  EXPECT_EQ(user("0"), "uid 0");
  EXPECT_EQ(user("app"), "name app");
  EXPECT_EQ(user("app:staff"), "name app");
  EXPECT_EQ(user("1000x"), "name 1000x");
  EXPECT_EQ(user("-1"), "name -1");
  EXPECT_EQ(user(""), "name ");
  EXPECT_EQ(user(":5"), "name ");
}

TEST_F(ImageServiceTest, PinnedImagesAreMarkedAndMayBeRemoved) {
  pinned_ = {"quay.io/exact:a.ok", "quay.io/glob/*", "*keyword*"};
  Start();
  for (const char* name : {"quay.io/exact:a.ok", "quay.io/glob/x/y:b.ok",
                           "quay.io/some-keyword-here:c.ok", "quay.io/exactly:d.ok"}) {
    ASSERT_TRUE(Pull(name).ok());
  }
  EXPECT_TRUE(Status("quay.io/exact:a.ok").pinned());
  EXPECT_TRUE(Status("quay.io/glob/x/y:b.ok").pinned());
  EXPECT_TRUE(Status("quay.io/some-keyword-here:c.ok").pinned());
  EXPECT_FALSE(Status("quay.io/exactly:d.ok").pinned());
  EXPECT_THAT(List("quay.io/exact:a.ok").front().pinned(), true);
  ASSERT_TRUE(Pull("quay.io/glob/z:d.ok").ok());
  EXPECT_TRUE(Status("quay.io/exactly:d.ok").pinned()) << "one of its names is";
  EXPECT_TRUE(Remove("quay.io/exact:a.ok").ok());
  EXPECT_THAT(List(), SizeIs(3));
}

TEST_F(ImageServiceTest, ALayerThatVanishesIsNamedByTheCreateAndRepairedByTheNextPull) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  ASSERT_TRUE(Pull("quay.io/other:c.ok").ok());
  const std::string layer = testing::MakeFakeImage("ab").chain_ids[0];
  ASSERT_TRUE(base::RemoveTree(directory_ / ("root/layers/" + layer)).ok());
  EXPECT_THAT(List(), SizeIs(2)) << "nobody has looked";
  const absl::Status status = service_->Acquire("quay.io/one:ab.ok", "c1").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("quay.io/one:ab.ok is damaged: layer " + layer));
  EXPECT_THAT(List(), SizeIs(1)) << "so that the kubelet pulls it";
  EXPECT_THAT(service_->problems(), SizeIs(2));
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  EXPECT_TRUE(service_->Acquire("quay.io/one:ab.ok", "c1").ok());
  EXPECT_TRUE(base::Exists(directory_ / ("root/layers/" + layer + "/file-a")));
  EXPECT_THAT(service_->problems(), IsEmpty());
  Start();
  EXPECT_THAT(List(), SizeIs(2));
}

TEST_F(ImageServiceTest, APullRepairsALayerThatVanishedUnnoticed) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  const std::string layer = testing::MakeFakeImage("ab").chain_ids[1];
  ASSERT_TRUE(base::RemoveTree(directory_ / ("root/layers/" + layer)).ok());
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  EXPECT_TRUE(base::Exists(directory_ / ("root/layers/" + layer + "/file-b")));
  EXPECT_TRUE(service_->Acquire("quay.io/one:ab.ok", "c1").ok());
}

TEST_F(ImageServiceTest, ADamagedRecordIsNamedAndRepairedByTheNextPull) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  ASSERT_TRUE(Pull("quay.io/other:c.ok").ok());
  service_.reset();
  ASSERT_TRUE(base::ReplaceFile(directory_ / ("root/records/images/" + IdOf("ab")), "rubbish", 0600,
                                base::Durability::kVolatile)
                  .ok());
  Start();
  ASSERT_THAT(List(), SizeIs(1));
  EXPECT_EQ(List().front().id(), IdOf("c"));
  EXPECT_THAT(
      service_->problems(),
      ElementsAre("image " + IdOf("ab") + ": its record is damaged; the next pull repairs it"));
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  EXPECT_THAT(service_->problems(), IsEmpty());
  Start();
  EXPECT_THAT(List(), SizeIs(2));
  EXPECT_THAT(service_->problems(), IsEmpty());
}

TEST_F(ImageServiceTest, ARecordDamagedWhileTheDaemonRunsIsRepairedByTheNextPull) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  ASSERT_TRUE(base::ReplaceFile(directory_ / ("root/records/images/" + IdOf("ab")), "rubbish", 0600,
                                base::Durability::kVolatile)
                  .ok());
  EXPECT_EQ(Status("quay.io/one:ab.ok").id(), IdOf("ab"));
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  Start();
  EXPECT_EQ(Status("quay.io/one:ab.ok").id(), IdOf("ab"));
  EXPECT_THAT(service_->problems(), IsEmpty());
}

// Two images that share a layer.
TEST_F(ImageServiceTest, PullsRemovalsAndCreatesAtOnceLeaveTheStoreWhole) {
  std::vector<std::thread> threads;
  for (const char* name : {"quay.io/one:ab.ok", "quay.io/two:ac.ok"}) {
    threads.emplace_back([&, name] {
      for (int i = 0; i < 10; ++i) {
        const absl::StatusOr<std::string> id = Pull(name);
        EXPECT_TRUE(id.ok()) << id.status();
      }
    });
    threads.emplace_back([&, name] {
      for (int i = 0; i < 40; ++i) {
        EXPECT_TRUE(Remove(name).ok());
      }
    });
    threads.emplace_back([&, name] {
      for (int i = 0; i < 40; ++i) {
        const std::string owner = base::StrCat(name, i);
        const absl::StatusOr<ContainerImage> image = service_->Acquire(name, owner);
        for (const std::string& layer :
             image.ok() ? image->chain_ids : std::vector<std::string>()) {
          EXPECT_TRUE(base::Exists(directory_ / ("root/layers/" + layer)));
        }
        EXPECT_TRUE(image.ok() || absl::IsNotFound(image.status())) << image.status();
        service_->Release(owner);
      }
    });
  }
  threads.emplace_back([&] {
    for (int i = 0; i < 100; ++i) {
      EXPECT_LE(List().size(), 2u);
      EXPECT_TRUE(service_->ImageFsInfo(base::Context(), cri::ImageFsInfoRequest()).ok());
    }
  });
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_THAT(service_->problems(), IsEmpty());
  ASSERT_TRUE(Remove("quay.io/one:ab.ok").ok());
  ASSERT_TRUE(Remove("quay.io/two:ac.ok").ok());
  service_.reset();  // Ends when the deletions have.
  for (const char* folder : {"layers", "staging", "trash", "records/layers", "records/images"}) {
    EXPECT_THAT(Names(folder), IsEmpty()) << folder;
  }
}

TEST_F(ImageServiceTest, ARestartFindsEverythingAgain) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  const cri::Image before = Status("quay.io/one:ab.ok");
  Start();
  EXPECT_EQ(Status("quay.io/one:ab.ok").SerializeAsString(), before.SerializeAsString());
  EXPECT_THAT(service_->problems(), IsEmpty());
}

TEST_F(ImageServiceTest, AStartSweepsWhatNoRecordKnows) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  service_.reset();
  for (const std::string& left : {"layers/" + std::string(64, '1'), std::string("staging/0123"),
                                  std::string("staging/0123-4"), std::string("trash/x")}) {
    ASSERT_TRUE(base::MakeDirectories(directory_ / ("root/" + left + "/deep/er")).ok());
  }
  Start();
  service_.reset();  // Ends when the deletions have.
  EXPECT_THAT(Names("layers"), SizeIs(2));
  EXPECT_THAT(Names("staging"), IsEmpty());
  EXPECT_THAT(Names("trash"), IsEmpty());
}

TEST_F(ImageServiceTest, ABrokenRegistriesConfFailsPullsAndNothingElse) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  ASSERT_TRUE(base::ReplaceFile(directory_ / "registries.conf", "not toml at all [", 0644,
                                base::Durability::kVolatile)
                  .ok());
  EXPECT_THAT(std::string(Pull("quay.io/two:a.ok").status().message()),
              HasSubstr("registries.conf"));
  EXPECT_EQ(Status("quay.io/one:ab.ok").id(), IdOf("ab"));
  Start();
  EXPECT_EQ(Status("quay.io/one:ab.ok").id(), IdOf("ab"));
}

TEST_F(ImageServiceTest, AShortNameMeansTheImageThatIsHereWhateverTheModeIs) {
  ASSERT_TRUE(Pull("quay.io/one:ab.ok").ok());
  ASSERT_TRUE(base::ReplaceFile(directory_ / "registries.conf",
                                "unqualified-search-registries = [\"docker.io\", \"quay.io\"]\n"
                                "short-name-mode = \"enforcing\"\n",
                                0644, base::Durability::kVolatile)
                  .ok());
  const absl::Status refused = Pull("one:ab.ok").status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("[aliases] \"one\""));
  EXPECT_EQ(Status("one:ab.ok").id(), IdOf("ab"));
  EXPECT_EQ(service_->Acquire("one:ab.ok", "c1")->id, IdOf("ab"));
}

TEST_F(ImageServiceTest, WhatThePolicyRefusesTheKubeletKnowsByItsWord) {
  ASSERT_TRUE(base::ReplaceFile(directory_ / "policy.json",
                                R"({"default": [{"type": "insecureAcceptAnything"}], "transports":
                                    {"docker": {"quay.io/signed": [{"type": "sigstoreSigned",
                                                                    "keyPath": "/k"}]}}})",
                                0644, base::Durability::kVolatile)
                  .ok());
  EXPECT_TRUE(Pull("quay.io/one:ab.ok").ok());
  EXPECT_THAT(std::string(Pull("quay.io/signed/one:ab.ok").status().message()),
              StartsWith("SignatureValidationFailed: quay.io/signed/one:ab.ok is refused"));
}

TEST_F(ImageServiceTest, PullsByDigestHaveNoTag) {
  const std::string digest = testing::MakeFakeImage("ab").manifest_digest;
  // The fake takes the tag for its orders; the digest decides what the image is called.
  ASSERT_TRUE(Pull("quay.io/one:ab.ok@" + digest).ok());
  const cri::Image image = Status("quay.io/one@" + digest);
  EXPECT_EQ(image.id(), IdOf("ab"));
  EXPECT_THAT(image.repo_tags(), IsEmpty());
}

}  // namespace
}  // namespace imageservice
