//! PCI functions as sysfs shows them, and VFIO: devices, BARs, interrupts and address spaces. Opens,
//! maps and exports; knows neither pools nor NICs.
