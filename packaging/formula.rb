# The formula of a tap; packaging/finish.sh of the project fills it in.
class MlxOpenaiServerHub < Formula
  desc "Runs many MLX models behind one OpenAI-compatible port"
  homepage "@REPOSITORY@"
  version "@VERSION@"
  license "MIT"

  on_macos do
    on_arm do
      url "@REPOSITORY@/releases/download/v@VERSION@/mlx-openai-server-hub-aarch64-apple-darwin.tar.gz"
      sha256 "@SHA256 aarch64-apple-darwin@"
    end
    on_intel do
      url "@REPOSITORY@/releases/download/v@VERSION@/mlx-openai-server-hub-x86_64-apple-darwin.tar.gz"
      sha256 "@SHA256 x86_64-apple-darwin@"
    end
  end

  on_linux do
    on_arm do
      url "@REPOSITORY@/releases/download/v@VERSION@/mlx-openai-server-hub-aarch64-unknown-linux-gnu.tar.gz"
      sha256 "@SHA256 aarch64-unknown-linux-gnu@"
    end
    on_intel do
      url "@REPOSITORY@/releases/download/v@VERSION@/mlx-openai-server-hub-x86_64-unknown-linux-gnu.tar.gz"
      sha256 "@SHA256 x86_64-unknown-linux-gnu@"
    end
  end

  def install
    bin.install "mlx-openai-server-hub"
    man1.install Dir["share/man/man1/*"]
    bash_completion.install "share/bash-completion/completions/mlx-openai-server-hub"
    zsh_completion.install "share/zsh/site-functions/_mlx-openai-server-hub"
    fish_completion.install "share/fish/vendor_completions.d/mlx-openai-server-hub.fish"
  end

  service do
    run [opt_bin/"mlx-openai-server-hub", "serve"]
    # After `stop` it stays down; after a crash it starts again.
    keep_alive successful_exit: false
    process_type :interactive
    # uv and pipx put the worker there.
    environment_variables PATH: "#{Dir.home}/.local/bin:#{std_service_path_env}"
    error_log_path var/"log/mlx-openai-server-hub.log"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/mlx-openai-server-hub --version")
  end
end
