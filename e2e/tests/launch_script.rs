//! What `launch_guest.sh` makes of its options, without starting a guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::Result;
use e2e::tree;

/// Runs the script on a host that `dir` describes: a sysfs, a cpuinfo, a KVM device.
fn launch(dir: &Path, args: &[&str]) -> Result<Output> {
    fs::write(dir.join("kernel.elf"), "")?;
    fs::write(dir.join("image.igvm"), "")?;
    fs::write(dir.join("state.img"), "")?;
    Ok(Command::new(tree::script("launch_guest.sh"))
        .env("SVSM_SYSFS", dir.join("sys"))
        .env("SVSM_CPUINFO", dir.join("cpuinfo"))
        .env("SVSM_KVM", dir.join("kvm"))
        .current_dir(dir)
        .args(args)
        .output()?)
}

/// A program that stands in for QEMU.
fn fake_qemu(dir: &Path, text: &str) -> Result<()> {
    let path = dir.join("qemu");
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    Ok(fs::set_permissions(
        &path,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// The command that a dry run prints, without the shell's quoting.
fn command(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).replace('\\', "")
}

const NATIVE: [&str; 7] = [
    "--native",
    "--dry-run",
    "--kernel",
    "kernel.elf",
    "--igvm",
    "none",
    "--qemu",
];

fn native(dir: &Path, args: &[&str]) -> Result<Output> {
    let mut all = NATIVE.to_vec();
    all.push("./qemu");
    all.extend(args);
    launch(dir, &all)
}

#[test]
fn the_native_command_names_every_device_in_order() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fake_qemu(dir.path(), "")?;
    fs::write(dir.path().join("second,with comma.img"), "")?;
    let output = native(
        dir.path(),
        &[
            "--state",
            "state.img",
            "--state",
            "second,with comma.img",
            "--aproxy",
            "a.sock",
            "--log",
            "boot.log",
            "--memory",
            "512M",
            "--",
            "-cpu",
            "qemu64",
        ],
    )?;
    let command = command(&output);
    for part in [
        "-M microvm,",
        "accel=tcg",
        "-m 512M",
        "-kernel kernel.elf",
        "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-global virtio-mmio.force-legacy=false",
        "file=state.img,format=raw,if=none,id=svsm_storage0",
        "drive=svsm_storage0,bus=virtio-mmio-bus.0",
        "file=second,,with comma.img,format=raw,if=none,id=svsm_storage1",
        "drive=svsm_storage1,bus=virtio-mmio-bus.1",
        "socket,id=proxy,path=a.sock,server=off",
        "isa-serial,index=2,chardev=proxy",
        "logfile=boot.log",
    ] {
        assert!(command.contains(part), "no {part:?} in {command}");
    }
    assert!(command.trim_end().ends_with("-cpu qemu64"), "{command}");
    Ok(())
}

#[test]
fn without_a_proxy_com3_is_there_and_silent() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fake_qemu(dir.path(), "")?;
    let command = command(&native(dir.path(), &[])?);
    assert!(command.contains("-chardev null,id=proxy"), "{command}");
    assert!(command.contains("index=2,chardev=proxy"), "{command}");
    Ok(())
}

#[test]
fn com4_is_there_only_when_asked_for() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fake_qemu(dir.path(), "exit 0")?;
    let plain = command(&native(dir.path(), &[])?);
    assert!(!plain.contains("index=3"), "{plain}");
    let linked = command(&native(dir.path(), &["--guestlink", "a,b.sock"])?);
    assert!(
        linked.contains("socket,id=guestlink,path=a,,b.sock,server=on,wait=off")
            && linked.contains("isa-serial,index=3,chardev=guestlink"),
        "{linked}"
    );
    Ok(())
}

#[test]
fn kvm_is_taken_only_where_the_cpu_shows_vmx_or_svm() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fake_qemu(dir.path(), "")?;
    fs::write(dir.path().join("kvm"), "")?;
    for (flags, accel) in [
        ("flags : fpu sse2 svm aes", "accel=kvm"),
        ("flags : fpu vmx", "accel=kvm"),
        ("flags : fpu svm_lock notvmx", "accel=tcg"),
        ("flags : fpu sse2", "accel=tcg"),
    ] {
        fs::write(dir.path().join("cpuinfo"), flags)?;
        let command = command(&native(dir.path(), &[])?);
        assert!(command.contains(accel), "{flags}: {command}");
    }
    fs::write(dir.path().join("cpuinfo"), "flags : svm")?;
    let forced = command(&native(dir.path(), &["--accel", "tcg"])?);
    assert!(forced.contains("accel=tcg"), "{forced}");
    fs::remove_file(dir.path().join("kvm"))?;
    let absent = command(&native(dir.path(), &[])?);
    assert!(absent.contains("accel=tcg"), "{absent}");
    Ok(())
}

#[test]
fn an_snp_host_gets_the_command_of_the_documents() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let parameters = dir.path().join("sys/module/kvm_amd/parameters");
    fs::create_dir_all(&parameters)?;
    fs::write(parameters.join("sev_snp"), "Y\n")?;
    fs::write(dir.path().join("guest.qcow2"), "")?;
    fake_qemu(dir.path(), "echo '  igvm-cfg'")?;
    let args = [
        "--dry-run",
        "--qemu",
        "./qemu",
        "--igvm",
        "image.igvm",
        "--image",
        "guest.qcow2",
        "--aproxy",
        "a.sock",
        "--state",
        "state.img",
    ];
    let command_line = command(&launch(dir.path(), &args)?);
    for part in [
        "-M q35,confidential-guest-support=sev0,memory-backend=ram0,igvm-cfg=igvm0,x-svsm-virtio-mmio=on,accel=kvm",
        "memory-backend-memfd,id=ram0,size=8G",
        "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1",
        "igvm-cfg,id=igvm0,file=image.igvm",
        "-global virtio-mmio.force-legacy=false",
        "file=state.img,format=raw,if=none,id=svsm_storage0,cache=none",
        "-device virtio-blk-device,drive=svsm_storage0",
        "-serial chardev:console -serial null -serial chardev:proxy",
        "socket,id=proxy,path=a.sock,server=off",
        "file=guest.qcow2,format=qcow2",
    ] {
        assert!(command_line.contains(part), "no {part:?} in {command_line}");
    }

    // The same host with a QEMU that knows no IGVM, or asked for the other platform.
    fake_qemu(dir.path(), "echo '  memory-backend-ram'")?;
    let old = launch(
        dir.path(),
        &[&args[..], &["--kernel", "kernel.elf", "--igvm", "none"]].concat(),
    )?;
    assert!(command(&old).contains("-M microvm,"), "{old:?}");
    assert!(String::from_utf8_lossy(&old.stderr).contains("igvm-cfg"));
    fake_qemu(dir.path(), "echo '  igvm-cfg'")?;
    let asked = command(&native(dir.path(), &[])?);
    assert!(asked.contains("-M microvm,"), "{asked}");
    Ok(())
}

#[test]
fn a_bad_argument_gets_one_line_and_its_own_status() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fake_qemu(dir.path(), "")?;
    for (args, word) in [
        (&["--nonsense"][..], "--nonsense"),
        (&["--state"], "needs a value"),
        (&["--state", "absent.img"], "absent.img"),
        (&["--accel", "fast"], "fast"),
        (&["--timeout", "soon"], "soon"),
        (&["--memory", "lots"], "lots"),
        (&["--kernel", "absent.elf"], "absent.elf"),
        (&["--image", "absent.qcow2"], "absent.qcow2"),
        (&["--qemu", "./absent"], "./absent"),
    ] {
        let output = native(dir.path(), args)?;
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{args:?}: {message}");
        assert!(message.contains(word), "{args:?}: {message}");
    }
    Ok(())
}

#[test]
fn the_end_of_qemu_becomes_the_documented_status() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let run = |more: &[&str]| {
        let args = ["--native", "--kernel", "kernel.elf", "--igvm", "none"];
        launch(
            dir.path(),
            &[&args[..], &["--qemu", "./qemu"], more].concat(),
        )
    };
    for (qemu, status) in [(33, 0), (35, 1), (37, 2), (0, 3), (1, 3), (39, 3)] {
        fake_qemu(dir.path(), &format!("echo console; exit {qemu}"))?;
        let output = run(&["--timeout", "20"])?;
        assert_eq!(output.status.code(), Some(status), "{qemu}: {output:?}");
        assert_eq!(output.stdout, b"console\n");
    }
    fake_qemu(dir.path(), "exec sleep 30")?;
    let output = run(&["--timeout", "1"])?;
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    Ok(())
}
