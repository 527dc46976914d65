//! The first instructions, from 32-bit protected mode to Rust in long mode, and the
//! last ones, into the kernel.
//!
//! Entry state (the PVH boot ABI, and the same in the IGVM file): protected mode with
//! flat segments, paging off, interrupts off, EBX = physical address of
//! `hvm_start_info` (PVH only).

use core::arch::global_asm;

/// Size of stage2's only stack in bytes.
const STACK_SIZE: usize = 128 << 10;

global_asm!(
    r#"
.section .entry, "ax", @progbits
.code32
.global stage2_entry
stage2_entry:
    cli
    cld
    movl    %ebx, %ebp              /* CPUID overwrites EBX */

    /* Long mode and no-execute are required. */
    movl    $0x80000000, %eax
    cpuid
    cmpl    $0x80000001, %eax
    jb      10f
    movl    $0x80000001, %eax
    cpuid
    andl    $0x20100000, %edx       /* LM, NX */
    cmpl    $0x20100000, %edx
    jne     10f

    movl    $__bss_start, %edi
    movl    $__bss_end, %ecx
    subl    %edi, %ecx
    shrl    $2, %ecx
    xorl    %eax, %eax
    rep stosl

    /* Identity mapping of 4 GiB: present, writable, 2 MiB pages. */
    movl    $(stage2_page_tables + 0x1003), %eax
    movl    %eax, stage2_page_tables
    movl    $(stage2_page_tables + 0x2003), %eax
    movl    $(stage2_page_tables + 0x1000), %edi
    movl    $4, %ecx
2:  movl    %eax, (%edi)
    addl    $0x1000, %eax
    addl    $8, %edi
    loop    2b
    movl    $0x83, %eax
    movl    $(stage2_page_tables + 0x2000), %edi
    movl    $2048, %ecx
3:  movl    %eax, (%edi)
    addl    $0x200000, %eax
    addl    $8, %edi
    loop    3b

    movl    $0x620, %eax            /* PAE, OSFXSR, OSXMMEXCPT */
    movl    %eax, %cr4
    movl    $stage2_page_tables, %eax
    movl    %eax, %cr3
    movl    $0xc0000080, %ecx       /* EFER */
    rdmsr
    orl     $0x900, %eax            /* LME, NXE */
    wrmsr
    movl    $0x80010033, %eax       /* PG, WP, NE, ET, MP, PE; EM and TS clear */
    movl    %eax, %cr0

    movl    $stage2_stack_top, %esp
    lgdt    stage2_gdt_pointer
    pushl   $0x08
    pushl   $stage2_long_mode
    lret

    /* The CPU is too old: say so and stop. */
10: movl    $stage2_cpu_message, %esi
    movw    $0x3f8, %dx
11: lodsb
    testb   %al, %al
    jz      12f
    outb    %al, %dx
    jmp     11b
12: movw    $0xf4, %dx
    movl    $0x11, %eax
    outl    %eax, %dx
13: hlt
    jmp     13b

.code64
stage2_long_mode:
    movl    $0x10, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    xorl    %eax, %eax
    movl    %eax, %fs
    movl    %eax, %gs
    movl    %ebp, %edi
    xorl    %ebp, %ebp
    movl    $stage2_stack_top, %esp
    call    stage2_main
14: hlt
    jmp     14b

/* stage2_enter_kernel(entry, boot_info, page_table_root): the page of this function is
   the only one of stage2 that the kernel's page tables map. */
.section .trampoline, "ax", @progbits
.global stage2_enter_kernel
stage2_enter_kernel:
    movq    %rdi, %rax
    movq    %rsi, %rdi
    xorl    %esi, %esi
    movq    %rdx, %cr3
    xorl    %edx, %edx
    jmpq    *%rax

.section .rodata.entry, "a", @progbits
.balign 8
stage2_gdt:
    .quad   0
    .quad   0x00af9b000000ffff      /* 0x08: 64-bit code */
    .quad   0x00cf93000000ffff      /* 0x10: data */
stage2_gdt_pointer:
    .word   . - stage2_gdt - 1
    .long   stage2_gdt
stage2_cpu_message:
    .asciz  "[SVSM] ERROR: stage2: the CPU has no long mode or no no-execute pages\r\n"

.section .bss.entry, "aw", @nobits
.balign 4096
stage2_page_tables:
    .skip   6 * 4096
stage2_stack:
    .skip   {stack_size}
stage2_stack_top:
"#,
    stack_size = const STACK_SIZE,
    options(att_syntax)
);
