#include "daemon/image_options.h"

namespace crispd {
namespace {

using Verb = ImageCommand::Verb;

CLI::App* AddVerb(CLI::App* image, ImageCommand* command, Verb verb, const char* name,
                  const char* description, const char* footer) {
  CLI::App* app = image->add_subcommand(name, description);
  app->footer(footer);
  app->callback([command, verb] { command->verb = verb; });
  return app;
}

void AddNames(CLI::App* app, ImageCommand* command) {
  app->add_option("NAME", command->names, "Images by name, name@digest or id")
      ->required()
      ->type_name("");
}

void AddQuiet(CLI::App* app, ImageCommand* command) {
  app->add_flag("-q,--quiet", command->quiet, "Print ids only, and no progress");
}

void AddList(CLI::App* image, ImageCommand* command) {
  CLI::App* list = AddVerb(image, command, Verb::kList, "list", "List the images",
                           "Examples:\n"
                           "  crisp image list\n"
                           "  crisp image list --json | jq -r '.images[].repoTags[]'");
  list->add_flag("--digests", command->digests, "Show the digests, too");
  list->add_flag("-q,--quiet", command->quiet, "Print whole ids only");
  list->add_flag("--json", command->json, "Print the CRI's answer as JSON");
}

void AddPull(CLI::App* image, ImageCommand* command) {
  CLI::App* pull =
      AddVerb(image, command, Verb::kPull, "pull", "Pull images, showing how far they are",
              "Without credentials those of the node are used, as for the kubelet's pulls.\n\n"
              "Examples:\n"
              "  crisp image pull registry.k8s.io/pause:3.10 quay.io/prometheus/busybox:latest\n"
              "  pass registry | crisp image pull --creds-stdin registry.example.com/app:1.2");
  AddNames(pull, command);
  CLI::Option* creds = pull->add_option("--creds", command->creds,
                                        "USER:PASSWORD; others see it in the list of processes");
  CLI::Option* from_stdin = pull->add_flag("--creds-stdin", command->creds_stdin,
                                           "Read USER:PASSWORD from standard input");
  CLI::Option* file = pull->add_option("--authfile", command->authfile,
                                       "Take them from this auth.json (podman, skopeo, docker)");
  creds->type_name("TEXT")->excludes(from_stdin)->excludes(file);
  from_stdin->excludes(file);
  file->type_name("FILE");
  AddQuiet(pull, command);
}

void AddRemove(CLI::App* image, ImageCommand* command) {
  CLI::App* remove =
      AddVerb(image, command, Verb::kRemove, "remove", "Remove images with all their names",
              "Layers that containers use stay until the last of these is gone.\n\n"
              "Examples:\n"
              "  crisp image remove docker.io/library/busybox:1.36 4f53cda18c2b");
  AddNames(remove, command);
  AddQuiet(remove, command);
}

void AddLoad(CLI::App* image, ImageCommand* command) {
  CLI::App* load = AddVerb(
      image, command, Verb::kLoad, "load", "Load the images of an archive or layout",
      "FILE is an OCI archive, an OCI layout's directory, or what `docker save` writes; which, is\n"
      "told by its content. It must not be compressed as a whole (its layers may be). Names are\n"
      "the archive's own; an image without one is loaded all the same, to be used by its id.\n"
      "Every digest is checked as in a pull.\n\n"
      "Examples:\n"
      "  crisp image load busybox.tar\n"
      "  zstd -dc images.tar.zst | crisp image load -\n"
      "  crisp image load --name registry.example.com/app:1.2 ./layout");
  load->add_option("FILE", command->file, "The archive or directory; -: standard input")
      ->required()
      ->type_name("");
  load->add_option("--name", command->name, "Name the archive's only image so instead")
      ->type_name("NAME");
  AddQuiet(load, command);
}

void AddSave(CLI::App* image, ImageCommand* command) {
  CLI::App* save = AddVerb(
      image, command, Verb::kSave, "save", "Write images into an archive",
      "crisp keeps layers unpacked, so they are archived anew: an image may have another id and\n"
      "digest in the archive than here. Its files, configuration and tags are the same, and once\n"
      "loaded from the archive it is saved as the same bytes again. What belongs to several\n"
      "images is written once. FILE appears when it is complete.\n\n"
      "Formats: oci-archive; docker-archive, which is the same and also what `docker load` of any\n"
      "version reads; oci-layout, a directory.\n\n"
      "Examples:\n"
      "  crisp image save docker.io/library/busybox:1.36 -o busybox.tar\n"
      "  crisp image save app:1 app:2 -o apps.tar --compression zstd\n"
      "  crisp image save app:1 -o - | ssh node crisp image load -");
  AddNames(save, command);
  save->add_option("-o,--output", command->output, "The file or directory; -: standard output")
      ->required()
      ->type_name("FILE");
  save->add_option("--format", command->format, "oci-archive, docker-archive or oci-layout")
      ->check(CLI::IsMember({"oci-archive", "docker-archive", "oci-layout"}))
      ->type_name("FORMAT")
      ->capture_default_str();
  save->add_option("--compression", command->compression, "Of the layers: none, gzip or zstd")
      ->check(CLI::IsMember({"none", "gzip", "zstd"}))
      ->type_name("NAME")
      ->capture_default_str();
  save->add_flag("--force", command->force, "Replace FILE if it exists");
  AddQuiet(save, command);
}

}  // namespace

void AddImageOptions(CLI::App* image, ImageCommand* command) {
  image->require_subcommand(1);
  image->footer(
      "Exit status: 0 all went well, 1 something failed, 2 wrong command line, 130 interrupted\n"
      "(what was begun is undone). `crisp image VERB --help` has examples.");
  image->add_option("--socket", command->socket, "The daemon's socket (default: as configured)")
      ->type_name("PATH");
  image
      ->add_option("--timeout", command->timeout_seconds, "Give up after so many seconds; 0: never")
      ->check(CLI::Validator(CLI::NonNegativeNumber).description(""))
      ->type_name("SECONDS");
  AddList(image, command);
  AddPull(image, command);
  AddRemove(image, command);
  AddLoad(image, command);
  AddSave(image, command);
  for (CLI::App* verb : image->get_subcommands({})) {
    verb->fallthrough();
  }
}

}  // namespace crispd
