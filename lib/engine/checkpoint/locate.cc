// SPDX-License-Identifier: MIT
#include "engine/checkpoint/locate.h"

#include <dlfcn.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <vector>

#include "engine/api/engine_error.h"

namespace da3 {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWeightsEnd = ".safetensors";
constexpr const char* kOwner = "depth-anything";

struct Official {
  const char* name;
  const char* licence;
};
constexpr Official kOfficial[] = {
    {"DA3-SMALL", "Apache-2.0"},
    {"DA3-BASE", "Apache-2.0"},
    {"DA3-LARGE", "CC-BY-NC-4.0"},
    {"DA3-LARGE-1.1", "CC-BY-NC-4.0"},
    {"DA3-GIANT", "CC-BY-NC-4.0"},
    {"DA3-GIANT-1.1", "CC-BY-NC-4.0"},
    {"DA3MONO-LARGE", "Apache-2.0"},
    {"DA3METRIC-LARGE", "Apache-2.0"},
    {"DA3NESTED-GIANT-LARGE", "CC-BY-NC-4.0"},
    {"DA3NESTED-GIANT-LARGE-1.1", "CC-BY-NC-4.0"},
};

[[noreturn]] void not_found(const std::string& message, const std::string& detail = {}) {
  throw EngineError(DA3_ERROR_NOT_FOUND, message, detail);
}
[[noreturn]] void wrong(const std::string& message) {
  throw EngineError(DA3_ERROR_WRONG_TYPE, message);
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

const Official* official(const std::string& name) {
  for (const Official& model : kOfficial)
    if (lower(model.name) == lower(name)) return &model;
  return nullptr;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string home() {
  if (const std::string from_environment = environment("HOME"); !from_environment.empty())
    return from_environment;
  struct passwd entry, *found = nullptr;
  std::vector<char> buffer(16384);
  if (getpwuid_r(getuid(), &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr)
    return found->pw_dir;
  return "";
}

std::string expand_home(const std::string& path) {
  if (path != "~" && !path.starts_with("~/")) return path;
  const std::string folder = home();
  return folder.empty() ? path : folder + path.substr(1);
}

// What stat() says of a path. A link to nothing is `broken`.
struct Status {
  bool exists = false, folder = false, file = false, broken = false;
  int error = 0;
  uint64_t size = 0;
};

Status status_of(const fs::path& path) {
  Status result;
  struct stat info;
  if (stat(path.c_str(), &info) == 0) {
    result.exists = true;
    result.folder = S_ISDIR(info.st_mode);
    result.file = S_ISREG(info.st_mode);
    result.size = static_cast<uint64_t>(info.st_size);
    return result;
  }
  result.error = errno;
  if (result.error == ENOENT && lstat(path.c_str(), &info) == 0) result.broken = true;
  return result;
}

std::string link_target(const fs::path& path) {
  std::error_code error;
  return fs::read_symlink(path, error).string();
}

// Names in a folder, sorted. Throws OPEN_READ when it cannot be listed.
std::vector<std::string> names_in(const fs::path& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename().string());
  if (error)
    throw EngineError(DA3_ERROR_OPEN_READ,
                      "The folder " + folder.string() + " cannot be listed: " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

std::string joined(const std::vector<std::string>& names, size_t most = 8) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), most); ++i) text += (i > 0 ? ", " : "") + names[i];
  if (names.size() > most) text += " and " + std::to_string(names.size() - most) + " more";
  return text;
}

std::vector<std::string> ending(const std::vector<std::string>& names, const std::string& end) {
  std::vector<std::string> result;
  std::copy_if(names.begin(), names.end(), std::back_inserter(result),
               [&](const std::string& name) { return lower(name).ends_with(end); });
  return result;
}

// --- licence
// -------------------------------------------------------------------------------------------------

// A cache folder anywhere above the weights decides; else the name of the folder that holds them.
std::string licence_in(const fs::path& folder) {
  const std::string cached = "models--" + lower(kOwner) + "--";
  for (fs::path at = folder; at.has_relative_path(); at = at.parent_path()) {
    const std::string name = at.filename().string();
    if (!name.starts_with("models--")) continue;
    const Official* model = lower(name).starts_with(cached) ? official(name.substr(cached.size())) : nullptr;
    return model != nullptr ? model->licence : "";
  }
  const Official* model = official(folder.filename().string());
  return model != nullptr ? model->licence : "";
}

std::string licence_of(const fs::path& folder) {
  std::error_code error;
  const fs::path here = (fs::absolute(folder, error) / "").lexically_normal().parent_path();
  const std::string given = licence_in(here);
  if (!given.empty()) return given;
  const fs::path real = fs::canonical(folder, error);
  return error ? "" : licence_in(real);
}

// --- files and folders
// ---------------------------------------------------------------------------------------

// config.json in the folder of `weights`, else in that of the file it links to.
std::string config_beside(const fs::path& weights) {
  std::error_code error;
  const fs::path real = fs::canonical(weights, error);
  for (const fs::path& file : {weights, real}) {
    if (file.empty()) continue;
    const fs::path config = file.parent_path() / "config.json";
    const Status status = status_of(config);
    if (status.exists) return config.string();
    if (status.broken)
      throw EngineError(DA3_ERROR_OPEN_READ, config.string() + " is a link to " + link_target(config) +
                                                 ", which does not exist; fetch the model again");
  }
  return "";
}

Location at_file(const fs::path& file) {
  if (file.filename() == "config.json")
    wrong(file.string() +
          " is the configuration, not the weights; give the folder or the *.safetensors file");
  Location location;
  location.weights = location.source = file.string();
  location.config = config_beside(file);
  const fs::path folder = file.parent_path();
  location.licence = licence_of(folder.empty() ? "." : folder);
  return location;
}

[[noreturn]] void no_weights(const fs::path& folder, const std::vector<std::string>& names) {
  std::string text = "The folder " + folder.string() + " holds no *.safetensors file; ";
  if (names.empty()) throw EngineError(DA3_ERROR_NOT_FOUND, text + "it is empty");
  text += "it holds: " + joined(names);
  for (const char* end : {".pth", ".pt", ".bin", ".ckpt"})
    if (!ending(names, end).empty()) {
      text += ". PyTorch pickles are not read: convert the state dict with safetensors.torch.save_file()";
      break;
    }
  throw EngineError(DA3_ERROR_NOT_FOUND, text);
}

// The one file of weights in a folder, or "" with the folder's content in `names`.
fs::path weights_in(const fs::path& folder, std::vector<std::string>* names) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    const Status status = status_of(folder / name);
    if (status.exists) return folder / name;
    if (status.error != ENOENT)
      throw EngineError(DA3_ERROR_OPEN_READ,
                        "The folder " + folder.string() + " cannot be read: " + std::strerror(status.error));
    if (status.broken)
      throw EngineError(DA3_ERROR_OPEN_READ, (folder / name).string() + " is a link to " +
                                                 link_target(folder / name) +
                                                 ", which does not exist; fetch the model again");
  }
  *names = names_in(folder);
  const auto indices = ending(*names, std::string(kWeightsEnd) + ".index.json");
  if (indices.size() == 1) return folder / indices[0];
  const auto files = ending(*names, kWeightsEnd);
  if (files.size() == 1 && indices.empty()) return folder / files[0];
  if (!files.empty() || !indices.empty()) {
    auto all = files;
    all.insert(all.end(), indices.begin(), indices.end());
    wrong("The folder " + folder.string() + " holds several models; name one of: " + joined(all));
  }
  return {};
}

Location at_folder(const fs::path& folder, const fs::path& source) {
  std::vector<std::string> names;
  const fs::path weights = weights_in(folder, &names);
  if (weights.empty()) no_weights(folder, names);
  Location location = at_file(weights);
  location.source = source.string();
  return location;
}

// --- Hugging Face cache
// --------------------------------------------------------------------------------------

struct Repository {
  std::string owner, name, revision;  // revision "" = main
  std::string id() const { return owner + "/" + name; }
  std::string folder() const { return "models--" + owner + "--" + name; }
  std::string command() const {
    return "\"hf download " + id() + (revision.empty() ? "" : " --revision " + revision) + "\"";
  }
};

bool is_repository_part(std::string_view part) {
  if (part.empty() || part.size() > 96 || !std::isalnum(static_cast<unsigned char>(part.front())))
    return false;
  return std::all_of(part.begin(), part.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '_' || c == '-'; });
}

// Whether the name ends like a file, so that models/da3.safetensors is a path and not an owner and a name.
bool has_file_ending(const std::string& name) {
  for (const char* end :
       {".safetensors", ".json", ".pth", ".pt", ".bin", ".ckpt", ".gguf", ".onnx", ".npz", ".zip"})
    if (lower(name).ends_with(end)) return true;
  return false;
}

std::optional<Repository> parse_repository(const std::string& text) {
  Repository repository;
  const size_t slash = text.find('/'), at = text.find('@');
  if (slash == text.npos || at < slash) return std::nullopt;
  repository.owner = text.substr(0, slash);
  repository.name = text.substr(slash + 1, at == text.npos ? at : at - slash - 1);
  if (at != text.npos) {
    repository.revision = text.substr(at + 1);
    if (repository.revision.empty() || repository.revision.front() == '/' ||
        repository.revision.find("..") != text.npos)
      return std::nullopt;
  }
  if (!is_repository_part(repository.owner) || !is_repository_part(repository.name)) return std::nullopt;
  if (has_file_ending(repository.name)) return std::nullopt;
  return repository;
}

// In the order of search. huggingface_hub uses the first that is set; the others may hold older downloads.
std::vector<fs::path> cache_folders() {
  std::vector<fs::path> folders;
  const auto add = [&](const std::string& base, const char* below) {
    if (base.empty()) return;
    fs::path folder = (fs::path(expand_home(base)) / below).lexically_normal();
    if (!folder.has_filename()) folder = folder.parent_path();  // the slash at the end
    if (std::find(folders.begin(), folders.end(), folder) == folders.end()) folders.push_back(folder);
  };
  add(environment("HF_HUB_CACHE"), "");
  add(environment("HF_HOME"), "hub");
  add(environment("XDG_CACHE_HOME"), "huggingface/hub");
  add(home(), ".cache/huggingface/hub");
  return folders;
}

std::string read_ref(const fs::path& path) {
  std::ifstream file(path);
  std::string commit;
  file >> commit;
  return commit.find('/') == commit.npos && commit != ".." && commit != "." ? commit : "";
}

// The snapshot folder of a revision in a repository's cache folder; on failure "" and the reason.
fs::path snapshot(const fs::path& repository, const std::string& revision, std::string* problem) {
  const fs::path snapshots = repository / "snapshots";
  const std::string wanted = revision.empty() ? "main" : revision;
  const std::string commit = read_ref(repository / "refs" / wanted);
  if (!commit.empty()) {
    if (status_of(snapshots / commit).folder) return snapshots / commit;
    *problem = "refs/" + wanted + " names the snapshot " + commit + ", which is not there";
    return {};
  }
  if (!revision.empty()) {
    if (status_of(snapshots / revision).folder) return snapshots / revision;
    *problem = "it has no revision " + revision;
    return {};
  }
  // Fetched by commit only: refs/main was never written. One snapshot leaves no doubt.
  const std::vector<std::string> names =
      status_of(snapshots).folder ? names_in(snapshots) : std::vector<std::string>();
  if (names.size() == 1) return snapshots / names[0];
  *problem = names.empty()
                 ? "it has no snapshot"
                 : "it has no refs/main but several snapshots; choose one with @REVISION: " + joined(names);
  return {};
}

// Resolves a cache folder models--owner--name to its weights, or says why not.
std::optional<Location> in_cache(const fs::path& folder, const std::string& revision, std::string* problem) {
  const fs::path found = snapshot(folder, revision, problem);
  if (found.empty()) return std::nullopt;
  std::vector<std::string> names;
  fs::path weights;
  try {
    weights = weights_in(found, &names);
  } catch (const EngineError& error) {
    *problem = error.what();
    return std::nullopt;
  }
  if (weights.empty()) {
    *problem = "its snapshot " + found.filename().string() + " has no *.safetensors file (" +
               (names.empty() ? "it is empty" : "it holds " + joined(names)) + ")";
    return std::nullopt;
  }
  Location location = at_file(weights);
  location.source = found.string();
  return location;
}

// DA3 models that lie in a cache folder, as repository ids.
std::vector<std::string> cached_models(const fs::path& cache) {
  std::vector<std::string> ids;
  std::error_code error;
  for (fs::directory_iterator it(cache, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (!name.starts_with("models--") || lower(name).find("da3") == name.npos) continue;
    name.erase(0, std::strlen("models--"));
    if (const size_t dashes = name.find("--"); dashes != name.npos) name.replace(dashes, 2, "/");
    ids.push_back(name);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

std::string licence_remark(const Repository& repository) {
  const Official* model = lower(repository.owner) == kOwner ? official(repository.name) : nullptr;
  return model != nullptr ? std::string(" (licence of these weights: ") + model->licence + ")" : "";
}

Location at_repository(const Repository& repository) {
  const std::vector<fs::path> caches = cache_folders();
  std::string searched, problems;
  std::vector<std::string> others;
  for (const fs::path& cache : caches) {
    searched += (searched.empty() ? "" : ", ") + cache.string();
    const fs::path folder = cache / repository.folder();
    const Status status = status_of(folder);
    if (status.error != 0 && status.error != ENOENT && status.error != ENOTDIR) {
      problems += (problems.empty() ? "" : "; ") + folder.string() + ": " + std::strerror(status.error);
      continue;
    }
    if (!status.folder) {
      const auto models = cached_models(cache);
      others.insert(others.end(), models.begin(), models.end());
      continue;
    }
    std::string problem;
    if (auto location = in_cache(folder, repository.revision, &problem)) return *location;
    problems += (problems.empty() ? "" : "; ") + folder.string() + ": " + problem;
  }
  const std::string get = "; get it with " + repository.command() + licence_remark(repository);
  const std::string hint =
      "hf comes with \"pip install huggingface_hub\"; without a network, copy the folder " +
      repository.folder() + " from another machine's cache, or give a path";
  if (!problems.empty())
    not_found("The model " + repository.id() + " in the Hugging Face cache cannot be used: " + problems + get,
              hint);
  not_found("The model " + repository.id() +
                " is neither a file or folder nor in the Hugging Face cache (searched " +
                (searched.empty() ? "nothing: neither HOME nor HF_HUB_CACHE is set" : searched) + ")" + get +
                (others.empty() ? "" : ". The cache holds: " + joined(others)),
            hint);
}

// --- the checkpoint that ships
// -------------------------------------------------------------------------------

// Only to have an address in this file.
void here() {}

std::string own_file() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&here), &info) == 0 || info.dli_fname == nullptr) return "";
  std::error_code error;
  // The program itself is named as it was called.
  const fs::path file = fs::canonical(info.dli_fname, error);
  return error ? "" : file.string();
}

Location at_shipped() {
  std::string searched;
  for (const std::string& base : model_folders()) {
    const fs::path folder = fs::path(base) / kShippedModel;
    const Status status = status_of(folder);
    if (status.broken || (status.error != 0 && status.error != ENOENT && status.error != ENOTDIR))
      throw EngineError(DA3_ERROR_OPEN_READ, "The model " + folder.string() + " cannot be reached: " +
                                                 (status.broken ? "it is a link to " + link_target(folder) +
                                                                      ", which does not exist"
                                                                : std::strerror(status.error)));
    if (status.folder) return at_folder(folder, folder);
    searched += (searched.empty() ? "" : ", ") + folder.string();
  }
  not_found(
      "The model da3-demo, which ships with gst-da3 and is the default, is not there (searched " + searched +
      "); install gst-da3 or name the folder that holds da3-demo in DA3_MODEL_PATH, or set the model to a "
      "*.safetensors file, a folder, a Hugging Face repository id such as " +
      kOwner + "/DA3-SMALL, or synthetic:da3-small for untrained weights");
}

// --- what is not there
// ---------------------------------------------------------------------------------------

// For a path that does not exist: the folder that does, and what one may have meant.
[[noreturn]] void missing_path(const std::string& model, const fs::path& path) {
  const Official* model_name = official(path.filename().string());
  if (model_name != nullptr && path == path.filename())
    not_found("There is no file or folder " + model + "; for the official model give " + kOwner + "/" +
              model_name->name + " after \"hf download " + kOwner + "/" + model_name->name + "\" (licence " +
              model_name->licence + "), for untrained weights synthetic:" + lower(model));
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error).lexically_normal();
  fs::path folder = absolute.parent_path();
  if (!status_of(folder).exists) {
    while (folder.has_relative_path() && !status_of(folder.parent_path()).exists)
      folder = folder.parent_path();
    not_found("The model file " + absolute.string() + " does not exist, nor does the folder " +
              folder.string() + "; check the path");
  }
  std::vector<std::string> names;
  try {
    names = ending(names_in(folder), kWeightsEnd);
  } catch (const EngineError&) {
    names.clear();  // only a hint is lost
  }
  not_found("The model file " + absolute.string() + " does not exist; check the path" +
            (names.empty() ? "" : ". In that folder are: " + joined(names)));
}

[[noreturn]] void cannot_reach(const std::string& path, const Status& status) {
  if (status.broken)
    not_found("The model " + path + " is a link to " + link_target(path) + ", which does not exist");
  const std::string reason = std::strerror(status.error);
  if (status.error == ENAMETOOLONG)
    not_found("The model \"" + path.substr(0, 80) + "...\" is too long for a path");
  throw EngineError(DA3_ERROR_OPEN_READ, "The model " + path + " cannot be reached: " + reason);
}

// Web addresses are not fetched; file:// is a path in disguise.
std::string without_scheme(const std::string& model) {
  constexpr std::string_view kFile = "file://";
  if (model.starts_with(kFile)) return model.substr(kFile.size());
  const size_t scheme = model.find("://");
  if (scheme == model.npos || status_of(model).exists) return model;
  std::string id = model.substr(scheme + 3);
  for (const char* host : {"huggingface.co/", "hf.co/"})
    if (id.starts_with(host)) id.erase(0, std::strlen(host));
  const size_t name = id.find('/');
  if (name != id.npos) id = id.substr(0, id.find('/', name + 1));
  const bool is_id = parse_repository(id).has_value();
  not_found("The model " + model + " is a web address, and nothing is fetched from the network; " +
            (is_id ? "fetch it with \"hf download " + id + "\" and give " + id
                   : std::string("download it and give the path of the file")));
}

}  // namespace

std::vector<std::string> model_folders(const std::string& module) {
  std::vector<std::string> folders;
  const auto add = [&](const fs::path& folder) {
    const std::string text = folder.lexically_normal().string();
    if (std::find(folders.begin(), folders.end(), text) == folders.end()) folders.push_back(text);
  };
  std::istringstream variable(environment("DA3_MODEL_PATH"));
  for (std::string folder; std::getline(variable, folder, ':');)
    if (!folder.empty()) add(expand_home(folder));
  // PREFIX/lib/x86_64-linux-gnu/gst-da3/x.so, PREFIX/lib/gst-da3/x.so or PREFIX/bin/x
  const fs::path data = fs::path(DA3_DATADIR) / "gst-da3" / "models";
  fs::path prefix = module.empty() ? own_file() : module;
  for (int level = 0; level < 4 && prefix.has_relative_path() && !fs::path(DA3_DATADIR).is_absolute();
       ++level) {
    prefix = prefix.parent_path();
    if (status_of(prefix / data).folder) add(prefix / data);
  }
  add(fs::path(DA3_PREFIX) / data);
  return folders;
}

Location locate(const std::string& model) {
  if (model.empty() || model == kShippedModel) return at_shipped();
  if (model.starts_with("synthetic:"))
    wrong("The model " + model +
          " is a formula, not a checkpoint; it is made by the engine and cannot be opened as "
          "a file");
  const std::string given = without_scheme(model);
  Status status = status_of(given);
  std::string path = given;
  if (!status.exists && !status.broken) {
    path = expand_home(given);
    if (path != given) status = status_of(path);
  }
  if (status.folder) {
    const fs::path folder(path);
    const fs::path named = folder.has_filename() ? folder : folder.parent_path();
    if (named.filename().string().starts_with("models--") && status_of(folder / "snapshots").folder) {
      std::string problem;
      if (auto location = in_cache(folder, "", &problem)) return *location;
      not_found("The cache folder " + path + " cannot be used: " + problem + "; fetch the model again");
    }
    return at_folder(folder, folder);
  }
  if (status.exists) return at_file(path);
  if (status.broken || (status.error != ENOENT && status.error != ENOTDIR)) cannot_reach(path, status);
  if (const auto repository = parse_repository(given)) return at_repository(*repository);
  missing_path(model, path);
}

}  // namespace da3
