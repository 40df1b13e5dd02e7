export const BUS_NAME = 'org.permafrost1'
export const OBJECT_PATH = '/org/permafrost1'
export const MANAGER_INTERFACE = 'org.permafrost1.Manager'
export const ERROR_PREFIX = 'org.permafrost1.Error.'

export const HIBERNATE_ACTION = 'org.permafrost1.hibernate'
export const SNAPSHOT_ACTION = 'org.permafrost1.snapshot'
export const MANAGE_ACTION = 'org.permafrost1.manage'

export const DBUS_NAME = 'org.freedesktop.DBus'
export const DBUS_PATH = '/org/freedesktop/DBus'
export const PROPERTIES_INTERFACE = 'org.freedesktop.DBus.Properties'
