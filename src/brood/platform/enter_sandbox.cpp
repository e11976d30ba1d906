// The filter lets everything pass that is not named here: what a C library needs differs from one
// release to the next, and a worker that dies of an innocent call is of no use. What is named is
// what reaches beyond the process.
#include <brood/platform/enter_sandbox.hpp>

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <initializer_list>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/memory_use.hpp>

namespace brood::detail {
namespace {

class Filter {
 public:
  Filter() : context_(::seccomp_init(SCMP_ACT_ALLOW)) {
    if (!context_) throw SystemError("seccomp_init", "", ENOMEM);
  }

  void forbid(std::initializer_list<int> calls) {
    for (const int call : calls) add(SCMP_ACT_ERRNO(EPERM), call, {});
  }
  /// As if the kernel had never heard of it: its users then use what it replaces.
  void hide(std::initializer_list<int> calls) {
    for (const int call : calls) add(SCMP_ACT_ERRNO(ENOSYS), call, {});
  }
  void forbid_if(int call, std::initializer_list<scmp_arg_cmp> all) {
    add(SCMP_ACT_ERRNO(EPERM), call, all);
  }
  void load() {
    // The threads that the initializer has started are in it, too.
    check("seccomp_attr_set", ::seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_TSYNC, 1));
    // A tree instead of a list: each call of the worker passes through it.
    ::seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
    check("seccomp_load", ::seccomp_load(context_.get()));
  }

 private:
  struct Release {
    void operator()(void* context) const { ::seccomp_release(context); }
  };

  static void check(const char* call, int rc) {
    if (rc < 0) throw SystemError(call, "of a sandbox", -rc);
  }
  void add(std::uint32_t action, int call, std::initializer_list<scmp_arg_cmp> all) {
    const int rc = ::seccomp_rule_add_array(context_.get(), action, call,
                                            static_cast<unsigned>(all.size()), std::data(all));
    // One that this machine's kernels do not have.
    if (rc == -EDOM || rc == -EFAULT) return;
    check("seccomp_rule_add", rc);
  }

  std::unique_ptr<void, Release> context_;
};

scmp_arg_cmp equals(unsigned argument, scmp_datum_t value) {
  return {argument, SCMP_CMP_EQ, value, 0};
}
scmp_arg_cmp is_not(unsigned argument, scmp_datum_t value) {
  return {argument, SCMP_CMP_NE, value, 0};
}
scmp_arg_cmp has_bits(unsigned argument, scmp_datum_t bits, scmp_datum_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, bits, value};
}

void forbid_others(Filter& filter, int self) {
  const auto pid = static_cast<scmp_datum_t>(self);
  // A process signals itself when it aborts.
  for (const int call :
       {SCMP_SYS(kill), SCMP_SYS(tgkill), SCMP_SYS(rt_sigqueueinfo), SCMP_SYS(rt_tgsigqueueinfo)}) {
    filter.forbid_if(call, {is_not(0, pid)});
  }
  for (const int call : {SCMP_SYS(prlimit64), SCMP_SYS(sched_setaffinity)}) {
    filter.forbid_if(call, {is_not(0, 0)});  // 0 is the caller
  }
  filter.forbid({SCMP_SYS(tkill), SCMP_SYS(pidfd_send_signal), SCMP_SYS(pidfd_getfd),
                 SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
                 SCMP_SYS(process_madvise), SCMP_SYS(process_mrelease), SCMP_SYS(kcmp),
                 SCMP_SYS(migrate_pages), SCMP_SYS(move_pages), SCMP_SYS(setpriority),
                 SCMP_SYS(sched_setattr), SCMP_SYS(sched_setparam), SCMP_SYS(sched_setscheduler),
                 SCMP_SYS(ioprio_set)});
  // Keys for whoever sits at the terminal.
  filter.forbid_if(SCMP_SYS(ioctl), {equals(1, TIOCSTI)});
  constexpr scmp_datum_t kTiocLinux = 0x541C;
  filter.forbid_if(SCMP_SYS(ioctl), {equals(1, kTiocLinux)});
}

void forbid_system(Filter& filter) {
  filter.forbid({SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(setreuid), SCMP_SYS(setregid),
                 SCMP_SYS(setresuid), SCMP_SYS(setresgid), SCMP_SYS(setfsuid), SCMP_SYS(setfsgid),
                 SCMP_SYS(setgroups), SCMP_SYS(capset), SCMP_SYS(personality)});
  filter.forbid({SCMP_SYS(mount),
                 SCMP_SYS(umount2),
                 SCMP_SYS(pivot_root),
                 SCMP_SYS(chroot),
                 SCMP_SYS(move_mount),
                 SCMP_SYS(open_tree),
                 SCMP_SYS(fsopen),
                 SCMP_SYS(fsconfig),
                 SCMP_SYS(fsmount),
                 SCMP_SYS(fspick),
                 SCMP_SYS(mount_setattr),
                 SCMP_SYS(setns),
                 SCMP_SYS(unshare),
                 SCMP_SYS(swapon),
                 SCMP_SYS(swapoff),
                 SCMP_SYS(quotactl),
                 SCMP_SYS(quotactl_fd),
                 SCMP_SYS(acct),
                 SCMP_SYS(fanotify_init),
                 SCMP_SYS(name_to_handle_at),
                 SCMP_SYS(open_by_handle_at)});
  filter.forbid({SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module),
                 SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(reboot),
                 SCMP_SYS(settimeofday), SCMP_SYS(clock_settime), SCMP_SYS(clock_adjtime),
                 SCMP_SYS(adjtimex), SCMP_SYS(sethostname), SCMP_SYS(setdomainname),
                 SCMP_SYS(syslog), SCMP_SYS(vhangup), SCMP_SYS(iopl), SCMP_SYS(ioperm),
                 SCMP_SYS(modify_ldt)});
  filter.forbid({SCMP_SYS(bpf),
                 SCMP_SYS(perf_event_open),
                 SCMP_SYS(userfaultfd),
                 SCMP_SYS(io_uring_setup),
                 SCMP_SYS(io_uring_enter),
                 SCMP_SYS(io_uring_register),
                 SCMP_SYS(keyctl),
                 SCMP_SYS(add_key),
                 SCMP_SYS(request_key),
                 SCMP_SYS(shmget),
                 SCMP_SYS(shmat),
                 SCMP_SYS(shmctl),
                 SCMP_SYS(semget),
                 SCMP_SYS(semop),
                 SCMP_SYS(semctl),
                 SCMP_SYS(msgget),
                 SCMP_SYS(msgsnd),
                 SCMP_SYS(msgrcv),
                 SCMP_SYS(msgctl),
                 SCMP_SYS(mq_open),
                 SCMP_SYS(mq_unlink)});
}

void forbid_writing(Filter& filter) {
  // The place of the flags among the arguments differs.
  for (const auto& [call, flags] :
       {std::pair{SCMP_SYS(open), 1U}, std::pair{SCMP_SYS(openat), 2U}}) {
    for (const int bits : {O_WRONLY, O_RDWR, O_CREAT, O_TRUNC}) {
      const auto mask = static_cast<scmp_datum_t>(bits);
      filter.forbid_if(call, {has_bits(flags, mask, mask)});
    }
  }
  filter.hide({SCMP_SYS(openat2)});  // its flags lie in memory, where a filter does not see them
  filter.forbid(
      {SCMP_SYS(creat),       SCMP_SYS(truncate),  SCMP_SYS(mkdir),       SCMP_SYS(mkdirat),
       SCMP_SYS(rmdir),       SCMP_SYS(unlink),    SCMP_SYS(unlinkat),    SCMP_SYS(rename),
       SCMP_SYS(renameat),    SCMP_SYS(renameat2), SCMP_SYS(link),        SCMP_SYS(linkat),
       SCMP_SYS(symlink),     SCMP_SYS(symlinkat), SCMP_SYS(mknod),       SCMP_SYS(mknodat),
       SCMP_SYS(chmod),       SCMP_SYS(fchmod),    SCMP_SYS(fchmodat),    SCMP_SYS(chown),
       SCMP_SYS(fchown),      SCMP_SYS(lchown),    SCMP_SYS(fchownat),    SCMP_SYS(utime),
       SCMP_SYS(utimes),      SCMP_SYS(utimensat), SCMP_SYS(futimesat),   SCMP_SYS(setxattr),
       SCMP_SYS(lsetxattr),   SCMP_SYS(fsetxattr), SCMP_SYS(removexattr), SCMP_SYS(lremovexattr),
       SCMP_SYS(fremovexattr)});
}

void lower(decltype(RLIMIT_CORE) what, const char* name, rlim_t to) {
  rlimit limit{};
  if (::getrlimit(what, &limit) != 0) throw SystemError("getrlimit", name, errno);
  if (limit.rlim_max <= to) return;
  limit = {to, to};
  if (::setrlimit(what, &limit) != 0) throw SystemError("setrlimit", name, errno);
}

/// Without them nobody can raise a limit again, and root is a user who owns some files. A thread
/// has its own: those that the initializer has started keep theirs.
void drop_privileges() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  const std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> none{};
  if (::syscall(SYS_capset, &header, none.data()) != 0) throw SystemError("capset", "", errno);
}

}  // namespace

void enter_sandbox(const Sandbox& sandbox) {
  keep_memory_use_readable();
  lower(RLIMIT_CORE, "RLIMIT_CORE", 0);
  if (sandbox.memory != 0) {
    lower(RLIMIT_DATA, "RLIMIT_DATA", data_memory() + sandbox.memory);
  }
  if (sandbox.open_files != 0) lower(RLIMIT_NOFILE, "RLIMIT_NOFILE", sandbox.open_files);
  drop_privileges();

  Filter filter;
  forbid_others(filter, ::getpid());
  forbid_system(filter);
  if (sandbox.files != Sandbox::Files::write) forbid_writing(filter);
  if (sandbox.files == Sandbox::Files::none) {
    filter.forbid({SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(uselib)});
  }
  if (!sandbox.network) {
    filter.forbid({SCMP_SYS(socket), SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen),
                   SCMP_SYS(accept), SCMP_SYS(accept4)});
  }
  if (!sandbox.programs) filter.forbid({SCMP_SYS(execve), SCMP_SYS(execveat)});
  if (!sandbox.processes) {
    filter.forbid({SCMP_SYS(fork), SCMP_SYS(vfork)});
    filter.forbid_if(SCMP_SYS(clone), {has_bits(0, CLONE_THREAD, 0)});
  } else {
    // New namespaces are made so, too.
    constexpr scmp_datum_t kNamespaces[] = {
        CLONE_NEWNS,  CLONE_NEWUTS,  CLONE_NEWIPC, CLONE_NEWPID,
        CLONE_NEWNET, CLONE_NEWUSER, 0x02000000 /* CLONE_NEWCGROUP */};
    for (const scmp_datum_t bit : kNamespaces) {
      filter.forbid_if(SCMP_SYS(clone), {has_bits(0, bit, bit)});
    }
  }
  filter.hide({SCMP_SYS(clone3)});  // as openat2: its flags are out of sight; clone is used instead
  filter.load();
}

}  // namespace brood::detail
